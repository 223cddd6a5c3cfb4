import { viewOf } from "../core/bytes.ts";
import { NT_FILE, NT_PRPSINFO, NT_PRSTATUS } from "./constants.ts";
import {
  PRSTATUS_FPVALID,
  PRSTATUS_PID,
  PRSTATUS_REGS,
  PRSTATUS_SIZE,
  USER_REGS,
  type UserRegister,
} from "./core-notes.ts";
import { encodeNote } from "./encode.ts";

/** The notes of an x86-64 process core: Linux `include/linux/elfcore.h`, `fs/binfmt_elf.c`. */

export interface ThreadStatus {
  readonly pid: number;
  readonly ppid: number;
  readonly pgrp: number;
  readonly sid: number;
  /** Undefined: unknown, and zero in the note. */
  readonly registers: Readonly<Record<UserRegister, bigint>> | undefined;
  /** Whether a note with floating-point registers follows. */
  readonly fpValid: boolean;
}

/** NT_PRSTATUS of a thread that no signal hit. */
export function encodeThreadStatus({ pid, ppid, pgrp, sid, registers, fpValid }: ThreadStatus): Buffer {
  const desc = Buffer.alloc(PRSTATUS_SIZE);
  const view = viewOf(desc);
  for (const [i, id] of [pid, ppid, pgrp, sid].entries()) view.setInt32(PRSTATUS_PID + 4 * i, id, true);
  if (registers !== undefined) {
    for (const [i, name] of USER_REGS.entries()) {
      view.setBigUint64(PRSTATUS_REGS + 8 * i, registers[name], true);
    }
  }
  view.setInt32(PRSTATUS_FPVALID, fpValid ? 1 : 0, true);
  return encodeNote("CORE", NT_PRSTATUS, desc);
}

export interface ProcessInfo {
  /** As ps shows it: R S D T Z … */
  readonly state: string;
  readonly nice: number;
  readonly flags: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  readonly ppid: number;
  readonly pgrp: number;
  readonly sid: number;
  /** Latin-1, a byte a character. */
  readonly fname: string;
  readonly psargs: string;
}

/** struct elf_prpsinfo of 64-bit machines. */
const PRPSINFO_SIZE = 136;
const AT = {
  state: 0,
  sname: 1,
  zomb: 2,
  nice: 3,
  flag: 8,
  uid: 16,
  gid: 20,
  ids: 24,
  fname: 40,
  psargs: 56,
};
const FNAME_ROOM = 15;
const PSARGS_ROOM = 79;
/** pr_state is the place of pr_sname in this (`fill_psinfo`). */
const STATES = "RSDTZW";

/** NT_PRPSINFO. */
export function encodeProcessInfo(info: ProcessInfo): Buffer {
  const desc = Buffer.alloc(PRPSINFO_SIZE);
  const state = STATES.indexOf(info.state[0] ?? "?");
  desc.writeUInt8(state < 0 ? STATES.length : state, AT.state);
  desc.write(state < 0 ? "." : info.state, AT.sname, 1, "latin1");
  desc.writeUInt8(info.state === "Z" ? 1 : 0, AT.zomb);
  desc.writeInt8(info.nice, AT.nice);
  desc.writeBigUInt64LE(BigInt(info.flags), AT.flag);
  desc.writeUInt32LE(info.uid, AT.uid);
  desc.writeUInt32LE(info.gid, AT.gid);
  for (const [i, id] of [info.pid, info.ppid, info.pgrp, info.sid].entries()) {
    desc.writeUInt32LE(id >>> 0, AT.ids + 4 * i);
  }
  desc.write(info.fname, AT.fname, FNAME_ROOM, "latin1");
  desc.write(info.psargs, AT.psargs, PSARGS_ROOM, "latin1");
  return encodeNote("CORE", NT_PRPSINFO, desc);
}

/** A mapped file as NT_FILE has it. */
export interface FileMapping {
  readonly start: bigint;
  readonly end: bigint;
  /** Page of the file at `start`. */
  readonly page: bigint;
  /** Latin-1, a byte a character. */
  readonly path: string;
}

const FILE_HEADER_SIZE = 16;
const FILE_ENTRY_SIZE = 24;

/** Bytes of one mapping in NT_FILE. */
export const fileMappingSize = ({ path }: FileMapping): number => FILE_ENTRY_SIZE + path.length + 1;

/** NT_FILE: count, page size, start, end and page of each, then their names (`fill_files_note`). */
export function encodeFileNote(files: readonly FileMapping[], pageSize: number): Buffer {
  const table = Buffer.alloc(FILE_HEADER_SIZE + FILE_ENTRY_SIZE * files.length);
  const view = viewOf(table);
  view.setBigUint64(0, BigInt(files.length), true);
  view.setBigUint64(8, BigInt(pageSize), true);
  for (const [i, { start, end, page }] of files.entries()) {
    for (const [word, value] of [start, end, page].entries()) {
      view.setBigUint64(FILE_HEADER_SIZE + FILE_ENTRY_SIZE * i + 8 * word, value, true);
    }
  }
  const names = Buffer.from(files.map(({ path }) => `${path}\0`).join(""), "latin1");
  return encodeNote("CORE", NT_FILE, Buffer.concat([table, names]));
}
