/** One address, one text: all spellings become the same canonical form, which is node's own, but for mapped ones. */
import assert from "node:assert/strict";
import { isIP, SocketAddress } from "node:net";
import { test } from "node:test";
import * as fc from "fast-check";
import { canonical_address, describe_socket, family_of, is_wildcard } from "../../helper/address.js";

for (const [text, expected] of [
  ["::", "::"],
  ["0:0:0:0:0:0:0:0", "::"],
  ["::0", "::"],
  ["::0.0.0.0", "::"],
  ["0.0.0.0", "0.0.0.0"],
  ["127.0.0.1", "127.0.0.1"],
  ["::ffff:127.0.0.1", "127.0.0.1"],
  ["::FFFF:7f00:1", "127.0.0.1"],
  ["0:0:0:0:0:ffff:127.0.0.1", "127.0.0.1"],
  ["::ffff:0:0", "0.0.0.0"],
  ["2001:DB8:0:0:0:0:0:1", "2001:db8::1"],
  ["1:0:0:2:0:0:0:3", "1:0:0:2::3"],
  ["::ffff:0:1.2.3.4", "::ffff:0:102:304"],
  ["fe80::1%lo", undefined],
  ["127.1", undefined],
  ["127.0.0.01", undefined],
  ["0x7f000001", undefined],
  ["2130706433", undefined],
  [" 127.0.0.1", undefined],
  ["127.0.0.1\0", undefined],
  ["localhost", undefined],
  ["", undefined],
  [":::", undefined],
  ["1::2::3", undefined],
] as const)
  test(`canonical_address(${JSON.stringify(text)})`, () => assert.equal(canonical_address(text), expected));

const words = fc.array(fc.oneof(fc.constant(0), fc.constant(0xffff), fc.integer({ min: 0, max: 0xffff })), {
  minLength: 8,
  maxLength: 8,
});

/** Every way to write the eight words: upper case, leading zeros, a dotted end, and `::` for any run of zeros. */
function spellings(eight: readonly number[]): string[] {
  const plain = eight.map((word) => word.toString(16));
  const [high, low] = [eight[6] as number, eight[7] as number];
  const dotted = [high >> 8, high & 255, low >> 8, low & 255].join(".");
  const texts = [plain.join(":"), plain.map((word) => word.padStart(4, "0")).join(":"), [...plain.slice(0, 6), dotted].join(":")];
  for (let from = 0; from < 8; from++)
    for (let to = from; to < 8 && eight[to] === 0; to++)
      texts.push(`${plain.slice(0, from).join(":")}::${plain.slice(to + 1).join(":")}`);
  return texts.flatMap((text) => [text, text.toUpperCase()]);
}

test("all spellings of one IPv6 address are one, and it is node's own", () => {
  fc.assert(
    fc.property(words, (eight) => {
      const all = spellings(eight);
      for (const text of all) assert.equal(isIP(text), 6, text);
      const forms = new Set(all.map(canonical_address));
      assert.equal(forms.size, 1, [...forms].join(" "));
      const [form = ""] = forms;
      const { address } = new SocketAddress({ address: all[0], family: "ipv6" });
      assert.equal(family_of(form) === 6 ? form : `::ffff:${form}`, address);
    }),
  );
});

test("canonical_address is idempotent and never says yes to what node calls no IP", () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6(), fc.string(), fc.stringMatching(/^[0-9a-f:.%]{0,20}$/)), (text) => {
      const form = canonical_address(text);
      if (isIP(text) === 0 || text.includes("%")) assert.equal(form, undefined);
      else assert.equal(canonical_address(form ?? ""), form);
    }),
    { numRuns: 1000 },
  );
});

test("families, wildcards and how a socket is written", () => {
  assert.equal(family_of("127.0.0.1"), 4);
  assert.equal(family_of("::1"), 6);
  assert.deepEqual(["::", "0.0.0.0", "::1", "0.0.0.1"].map(is_wildcard), [true, true, false, false]);
  assert.equal(describe_socket({ protocol: "tcp", address: "::", port: 443 }), "tcp [::]:443");
  assert.equal(describe_socket({ protocol: "udp", address: "10.0.0.1", port: 53 }), "udp 10.0.0.1:53");
});
