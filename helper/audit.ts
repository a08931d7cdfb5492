/**
 * The audit log: every call, connect, disconnect, start, stop, reload and lease end as one hash-chained JSON line.
 * The model: records are staged in order, and `commit` writes all that are staged in one write. A record of a call that
 * cannot be written is dropped, and its call refused (EIO): nothing unrecorded is granted. A record of what has happened
 * anyway (a disconnect) is owed: it stays staged and is written before anything after it.
 */
import { closeSync, fdatasync, fdatasyncSync, fstatSync } from "node:fs";
import { type Head, seal } from "../shared/chain.js";
import { timestamp, uptime_ms } from "../shared/clock.js";
import { type AuditFile, append_whole, open_audit_file } from "./audit-file.js";
import type { Peer } from "./policy.js";
import { stay_small } from "./young.js";

/** A record as it is staged, its members in the order of the line; `seq`, `time`, `prev` and `hash` are added. */
export interface AuditRecord {
  event: "call" | "connect" | "disconnect" | "start" | "stop" | "reload" | "lease-end" | "rotate";
  peer?: Peer | undefined;
  conn?: number | undefined;
  method?: string | undefined;
  id?: string | number | undefined;
  params?: unknown;
  decision?: "allow" | "deny" | "invalid" | "error" | undefined;
  rule?: string | undefined;
  code?: string | number | undefined;
  reason?: string | undefined;
  lease?: string | undefined;
  durationUs?: number | undefined;
}

/** Why a commit is not as durable as it should be. */
export interface Failure {
  readonly error: Error;
  /** It was written, but not synced. */
  readonly written: boolean;
}

/** What became of a record. */
export interface Fate {
  recorded?: boolean;
  /** Why it could not be written. */
  lost?: Error;
}

interface Staged {
  readonly time: string;
  readonly record: AuditRecord;
  /** A record without is owed: it is about what has happened, and is kept until it can be written. */
  readonly fate: Fate | undefined;
}

/** What a disk says that is full or broken: it may get better, and until then nothing is granted. */
export const DISK_TROUBLE: ReadonlySet<string | undefined> = new Set(["ENOSPC", "EDQUOT", "EIO", "EROFS"]);
/** Owed records beyond which the helper accepts no more connections, which are what owed records come from. */
export const MAX_OWED = 10_000;
/** Records between two chain heads that are sent to syslog. */
const HEAD_EVERY = 1000;
/** Milliseconds between two looks at whether the file is still there. */
const LOOK_EVERY_MS = 1000;

export class AuditLog {
  readonly #path: string;
  readonly #fsync: boolean;
  readonly #send_head: ((line: string) => void) | undefined;
  #file: AuditFile;
  #head: Head;
  #sent: number;
  #staged: Staged[] = [];
  #syncing = false;
  /** When the file was last looked at (monotonic milliseconds). */
  #looked = uptime_ms();
  /** Files moved away while one of them was being synced. */
  readonly #retired: number[] = [];
  #unsynced: ((failed?: Failure) => void)[] = [];

  /** @param send_head takes the head of the chain from time to time, for a place that the helper cannot edit */
  constructor(path: string, durability: "write" | "fsync", send_head?: (line: string) => void, file = open_audit_file(path)) {
    this.#path = path;
    this.#fsync = durability === "fsync";
    this.#send_head = send_head;
    this.#file = file;
    this.#head = this.#file.head;
    this.#sent = this.#head.seq;
  }

  /** The number of the last line written. */
  get seq(): number {
    return this.#head.seq;
  }

  /** The number that the record staged next will have. */
  get nextSeq(): number {
    return this.#head.seq + this.#staged.length + 1;
  }

  get owed(): number {
    return this.#staged.length;
  }

  /** The torn last line that was found at start and taken out of the file, or "". */
  get torn(): string {
    return this.#file.torn;
  }

  /** @param fate told of it; if it cannot be written it is dropped. Without it the record is owed */
  stage(record: AuditRecord, fate?: Fate): void {
    this.#staged.push({ time: timestamp(), record, fate });
  }

  /** Writes what is staged. @throws what the kernel says; then what is not owed is lost */
  write(): void {
    if (this.#staged.length === 0) return;
    try {
      this.#refuse_removed();
      let lines = "";
      let next = this.#head;
      for (const { time, record } of this.#staged) {
        const { event, peer, conn, method, id, params, decision, rule, code, reason, lease, durationUs } = record;
        const who = peer && { pid: peer.pid, uid: peer.uid, gid: peer.gid, groups: peer.groups };
        const seq = next.seq + 1;
        const prev = next.hash;
        // biome-ignore format: a line in the order of the log's, and flat: `...` would cost a tenth of it
        const all = { seq, time, event, peer: who, conn, method, id, params, decision, rule, code, reason, lease, durationUs, prev };
        const { line, hash } = seal(JSON.stringify(all));
        lines += `${line}\n`;
        next = { seq, hash };
      }
      append_whole(this.#file, lines);
      this.#head = next;
    } catch (error) {
      const lost = this.#staged;
      this.#staged = lost.filter(({ fate }) => fate === undefined);
      for (const { fate } of lost) if (fate !== undefined) fate.lost = error as Error;
      throw error;
    }
    const written = this.#staged;
    this.#staged = [];
    for (const { fate } of written) if (fate !== undefined) fate.recorded = true;
    if (this.#head.seq - this.#sent < HEAD_EVERY) return;
    this.send_head();
    stay_small();
  }

  /** A log that was removed by hand would take records that nobody can read. */
  #refuse_removed(): void {
    if (uptime_ms() - this.#looked < LOOK_EVERY_MS) return;
    if (fstatSync(this.#file.fd).nlink === 0) throw new Error(`${this.#path} was removed; SIGUSR1 begins a new one`);
    this.#looked = uptime_ms();
  }

  /** Tells syslog where the chain stands. */
  send_head(): void {
    this.#sent = this.#head.seq;
    this.#send_head?.(`audit head seq=${this.#head.seq} hash=${this.#head.hash} file=${this.#path}`);
  }

  /**
   * Writes what is staged and calls `done` once it is as durable as was asked for: at once with durability "write", and
   * with "fsync" after an fdatasync(2) that began after the write, one for all commits that came while another ran.
   */
  commit(done: (failed?: Failure) => void): void {
    try {
      this.write();
    } catch (error) {
      done({ error: error as Error, written: false });
      return;
    }
    if (!this.#fsync) {
      done();
      return;
    }
    this.#unsynced.push(done);
    if (!this.#syncing) this.#sync();
  }

  #sync(): void {
    const waiting = this.#unsynced;
    this.#unsynced = [];
    this.#syncing = true;
    fdatasync(this.#file.fd, (error) => {
      this.#syncing = false;
      for (const fd of this.#retired.splice(0)) closeSync(fd);
      for (const done of waiting) done(error === null ? undefined : { error, written: true });
      if (this.#unsynced.length > 0) this.#sync();
    });
  }

  /**
   * Goes on in a new file if rotation has moved the old one away, or somebody has removed it.
   * @returns whether it had. @throws and keeps the old
   */
  reopen(): boolean {
    const there = fstatSync(this.#file.fd).nlink > 0;
    if (there) this.write(); // what is owed belongs to the old file
    if (this.#fsync) fdatasyncSync(this.#file.fd); // for the commits that still wait
    const file = open_audit_file(this.#path, this.#file);
    if (file === undefined) return false;
    if (this.#syncing) this.#retired.push(this.#file.fd);
    else closeSync(this.#file.fd);
    this.#file = file;
    this.stage({
      event: "rotate",
      reason: `the file before was ${there ? "moved away" : "removed"} after record ${this.#head.seq}`,
    });
    this.write();
    this.send_head();
    return true;
  }
}
