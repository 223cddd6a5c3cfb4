import type { Kernel } from "./kernel.ts";
import { offsetOf } from "./types.ts";

/** What a core says of a process as a whole; 0 where the dump does not tell. */
export interface ProcessFacts {
  readonly ppid: number;
  readonly pgrp: number;
  readonly sid: number;
  /** Effective, of the host's own user namespace. */
  readonly uid: number;
  readonly gid: number;
  readonly nice: number;
  /** PF_* (include/linux/sched.h). */
  readonly flags: number;
}

/** DEFAULT_PRIO: static_prio of a nice value of 0. */
const NICE_0 = 120;
const MAX_NICE = 20;

/** @param task address of a process's task_struct */
export function processFacts({ reader, types }: Kernel, task: bigint): ProcessFacts {
  const at = (structure: bigint | undefined, ...paths: string[]): bigint | undefined => {
    const offset = offsetOf(types, ...paths);
    return structure === undefined || structure === 0n || offset === undefined
      ? undefined
      : structure + BigInt(offset);
  };
  const u64 = (address: bigint | undefined) => (address === undefined ? undefined : reader.u64(address));
  const u32 = (address: bigint | undefined) => (address === undefined ? 0 : (reader.u32(address) ?? 0));
  const parent = u64(at(task, "task_struct.real_parent"));
  const cred = u64(at(task, "task_struct.cred"));
  const ids = at(u64(at(task, "task_struct.signal")), "signal_struct.pids");
  /** In the first namespace; `signal_struct.pids` is indexed by enum pid_type (4.19+). */
  const idOf = (type: string): number => {
    const index = types.constant(type);
    const pid = index === undefined || ids === undefined ? undefined : reader.u64(ids + 8n * index);
    return u32(at(pid, "pid.numbers.nr"));
  };
  const nice = u32(at(task, "task_struct.static_prio")) - NICE_0;
  return {
    ppid: u32(at(parent, "task_struct.tgid")),
    pgrp: idOf("PIDTYPE_PGID"),
    sid: idOf("PIDTYPE_SID"),
    uid: u32(at(cred, "cred.uid")),
    gid: u32(at(cred, "cred.gid")),
    nice: nice >= -MAX_NICE && nice < MAX_NICE ? nice : 0,
    flags: u32(at(task, "task_struct.flags")),
  };
}

/** Twice what Linux has (AT_VECTOR_SIZE), in bytes. */
const MAX_AUXV = 2048;

/**
 * The auxiliary vector of a process, as /proc/PID/auxv has it: pairs of words up to AT_NULL, with it.
 * @param mm address of its mm_struct
 */
export function savedAuxv({ reader, types }: Kernel, mm: bigint): Buffer | undefined {
  const member = types.member("mm_struct.saved_auxv");
  if (member === undefined) return undefined;
  const bytes = reader.bytes(mm + BigInt(member.offset), Math.min(member.size, MAX_AUXV));
  if (bytes === undefined) return undefined;
  for (let at = 0; at + 16 <= bytes.length; at += 16) {
    if (bytes.readBigUInt64LE(at) === 0n) return bytes.subarray(0, at + 16);
  }
  return undefined;
}
