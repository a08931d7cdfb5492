/**
 * Promise: on a service as install leaves it the doctor finds all well, on each init; and it finds what has become of the installed
 * program, of what install wrote elsewhere, and of the service itself.
 */
import assert from "node:assert/strict";
import { dirname } from "node:path";
import { before, describe, test } from "node:test";
import type { Finding } from "../../helper/admin/findings.js";
import { boot, type Init, need_inits, type RealBox } from "./real-init.js";
import { install, LIBRARY, lowport } from "./service.js";

const INITS: readonly Init[] = ["systemd", "openrc", "sysv"];
await need_inits(import.meta.url, ...INITS);

async function examine(box: RealBox, user?: string): Promise<{ code: number | null; findings: Finding[] }> {
  const { code, stdout, stderr } = await box.run(["lowportd", "doctor", "--json"], user === undefined ? {} : { user });
  assert.equal(stderr, "");
  return { code, findings: JSON.parse(stdout) as Finding[] };
}

const POLICY = `${LIBRARY}/current/dist/helper/policy.js`;
/** How a machine is spoilt, by a line of shell; how it is mended; which check finds it, and what it says. */
const SPOILT: readonly (readonly [spoil: string, mend: string, check: string, says: RegExp])[] = [
  [
    `cp -a ${POLICY} /root/ && echo "// more" >>${POLICY}`,
    `cp -a /root/policy.js ${POLICY}`,
    "program",
    /policy\.js has another content/,
  ],
  [`chmod 0777 ${LIBRARY}/current/bin`, `chmod 0755 ${LIBRARY}/current/bin`, "program", /others than root can write there/],
  [`chown mail ${LIBRARY}/current/node`, `chown root ${LIBRARY}/current/node`, "program", /node belongs to 8:0 and not to 0:0/],
  [
    "echo '# more' >>/etc/logrotate.d/lowport",
    "sed -i '$d' /etc/logrotate.d/lowport",
    "drift",
    /logrotate\.d\/lowport has another content/,
  ],
  ["chmod 0666 /etc/logrotate.d/lowport", "chmod 0644 /etc/logrotate.d/lowport", "drift", /has mode 0666 and not 0644/],
  [
    "mv /usr/local/bin/lowport /root/ && ln -s /bin/sh /usr/local/bin/lowport",
    "mv /root/lowport /usr/local/bin/lowport",
    "drift",
    /bin\/lowport leads to \/bin\/sh/,
  ],
];
const DISABLE = {
  systemd: "systemctl disable --quiet lowport.service",
  openrc: "rc-update -q delete lowport",
  sysv: "update-rc.d lowport disable",
};
const ENABLE = {
  systemd: "systemctl enable --quiet lowport.service",
  openrc: "rc-update -q add lowport default",
  sysv: "update-rc.d lowport enable",
};

for (const init of INITS)
  describe(`on ${init}`, () => {
    let box: RealBox;
    const closing: (() => Promise<void>)[] = [];
    before(async () => {
      box = await boot({ after: (work) => void closing.push(work) }, { init });
      await install(box);
    });
    test("all is well", async () => {
      const { code, findings } = await examine(box);
      assert.deepEqual(
        findings.filter(({ state }) => state !== "ok"),
        [],
      );
      assert.equal(code, 0);
      for (const check of ["program", "drift", "service"]) assert.ok(findings.some((one) => one.check === check));
      const { code: same, stdout } = await lowport(box, "doctor", "--json");
      assert.deepEqual(
        [same, (JSON.parse(stdout) as Finding[]).map(({ check }) => check)],
        [0, findings.map(({ check }) => check)],
      );
    });

    test("a user without rights sees nothing wrong, and is told what takes root", async () => {
      const { code, findings } = await examine(box, "mallory");
      assert.deepEqual(
        findings.filter(({ state }) => state === "wrong"),
        [],
      );
      assert.equal(code, 0);
      assert.equal(findings.find(({ check }) => check === "audit-log")?.state, "unknown");
      for (const check of ["service", "drift"]) assert.equal(findings.find((one) => one.check === check)?.state, "ok", check);
      assert.doesNotMatch(JSON.stringify(findings), /output-|EACCES/);
    });

    const disabled = [DISABLE[init], ENABLE[init], "service", /does not start it at boot/] as const;
    for (const [spoil, mend, wanted, says] of [...SPOILT, disabled])
      test(`${wanted}: ${spoil}`, async () => {
        await box.do(["sh", "-c", spoil]);
        const { code, findings } = await examine(box);
        await box.do(["sh", "-c", mend]);
        const bad = findings.filter(({ state }) => state === "wrong");
        assert.deepEqual([...new Set(bad.map(({ check }) => check))], [wanted], JSON.stringify(bad));
        assert.match(bad.map(({ detail }) => detail).join("\n"), says);
        assert.equal(code, 2);
      });

    test("a drop-in that install did not write is named", async () => {
      if (init !== "systemd") return; // the others have none
      const dropin = "/etc/systemd/system/lowport.service.d/mine.conf";
      const text = "[Service]\\nNoNewPrivileges=no\\n";
      await box.do(["sh", "-c", `mkdir -p ${dirname(dropin)}; printf '${text}' >${dropin}; systemctl daemon-reload`]);
      const { findings } = await examine(box);
      await box.do(["sh", "-c", `rm ${dropin}; systemctl daemon-reload`]);
      const drift = findings.filter(({ check, state }) => check === "drift" && state !== "ok");
      assert.deepEqual(
        drift.map(({ detail }) => detail),
        [`lowport.service is changed by ${dropin}, which install did not write`],
      );
    });

    test("mended, all is well again", async () => {
      assert.equal((await examine(box)).code, 0);
      for (const close of closing) await close();
    });
  });
