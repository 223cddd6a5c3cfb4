import type { ByteSource } from "../../src/core/memory.ts";
import { checkDump } from "../../src/dump/check.ts";
import { Findings } from "../../src/dump/check-report.ts";
import type { DumpFiles } from "../../src/dump/format.ts";
import { MemorySource, quiet } from "./memory-io.ts";

/** What `verify` finds in a dump that lies in memory. */
export async function findingsIn(bytes: Uint8Array, files: DumpFiles = {}, quick = false) {
  return await findingsOf(new MemorySource(bytes), files, quick);
}

export async function findingsOf(source: ByteSource, files: DumpFiles = {}, quick = false) {
  const findings = new Findings();
  const report = { ...quiet, find: findings.find, quick };
  const dump = await checkDump(source, files, report);
  const { groups } = findings;
  return { ...dump, groups, codes: groups.map(({ code, count }) => `${code}×${count}`) };
}
