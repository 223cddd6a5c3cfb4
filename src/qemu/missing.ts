import type { ByteSource } from "../core/memory.ts";
import type { ProcessImage } from "../core/process.ts";
import { rangeAt } from "../core/ranges.ts";
import { bytesText, shellWord } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import type { DumpedMemory, DumpedPart } from "./dumped.ts";
import type { RamBlock } from "./memory.ts";
import type { MappedBlock, UnwrittenBlocks } from "./unwritten.ts";

/**
 * Bits of /proc/PID/coredump_filter (Linux `Documentation/filesystems/proc.rst` §3.4, `fs/coredump.c` vma_dump_size);
 * the default is 0x33. A shared mapping of a file without a name (memfd, MAP_SHARED|MAP_ANONYMOUS) counts as
 * anonymous; MADV_DONTDUMP wins over every bit.
 */
const DEFAULT_FILTER = 0x33;
const FILTER_BITS = {
  anonymousPrivate: 0,
  anonymousShared: 1,
  filePrivate: 2,
  fileShared: 3,
  hugetlbPrivate: 5,
  hugetlbShared: 6,
} as const;
type FilterBit = keyof typeof FILTER_BITS;

/** Names of the blocks of which the core lacks something that was not left out as untouched. */
export const incompleteBlocks = (
  dumped: DumpedMemory,
  mapped: readonly MappedBlock[],
  untouched: ReadonlySet<string>,
): ReadonlySet<string> =>
  new Set(
    mapped.flatMap(({ block }) => {
      const { truncated, absent } = missingBytes(dumped, block);
      return truncated + absent > 0 && !untouched.has(block.idstr) ? [block.idstr] : [];
    }),
  );

/** What is known of how the core came to lack guest memory. */
export interface MissingContext {
  readonly image: ProcessImage;
  readonly dumped: DumpedMemory;
  readonly mapped: readonly MappedBlock[];
  readonly unwritten: UnwrittenBlocks;
  /** Whether `-machine dump-guest-core=off` was given. */
  readonly off: boolean | undefined;
}

/** Says for every block that is not whole in the core how much is missing, why, and what would have kept it. */
export function explainMissing(context: MissingContext, covered: ReadonlySet<string>): Warning[] {
  const warnings: Warning[] = [];
  for (const one of context.mapped) {
    const { block } = one;
    if (covered.has(block.idstr)) continue;
    if (!block.readable) {
      warnings.push(unreadable(block));
      continue;
    }
    const { truncated, absent, firstAbsent } = missingBytes(context.dumped, block);
    if (truncated > 0) warnings.push(cutByTruncation(block, truncated));
    if (absent > 0) warnings.push(leftOut(context, one, absent, firstAbsent));
  }
  return warnings;
}

/** Warns of files that stand in for private memory: what the guest wrote there never reached a file. */
export function doubtfulFiles(
  { mapped, unwritten }: MissingContext,
  incomplete: ReadonlySet<string>,
  ram: ReadonlyMap<string, ByteSource>,
): Warning[] {
  return mapped.flatMap(({ block: { idstr, shared } }) => {
    const source = ram.get(idstr);
    if (source === undefined || shared || !incomplete.has(idstr) || unwritten.file.has(idstr)) return [];
    return [
      {
        code: "RAM010",
        message: `${idstr} is private memory of QEMU: what the guest wrote there is in no backing file`,
        hint: `${source.name} is right only if it is a copy of the guest's memory itself`,
      },
    ];
  });
}

const missingBytes = (dumped: DumpedMemory, { host, usedLength }: RamBlock): DumpedPart =>
  dumped.partOf(host, host + usedLength);

/** Names the blocks whose memory the guest may have made its own (RAM_GUEST_MEMFD). */
export function privateMemory(mapped: readonly MappedBlock[]): Warning[] {
  const names = mapped.filter(({ block }) => block.guestMemfd).map(({ block }) => block.idstr);
  if (names.length === 0) return [];
  return [
    {
      code: "RAM009",
      message: `the guest may keep pages of ${names.join(", ")} private (SEV-SNP or TDX): they are not in this process and read as zeros or as what was there before`,
      hint: "private memory is encrypted and lies in a guest_memfd, which no core contains; what the guest shares is right",
    },
  ];
}

const unreadable = (block: RamBlock): Warning => ({
  code: "RAM006",
  message: `${bytesText(block.usedLength)} of ${block.idstr} are missing: where they lie in the process is not in this core`,
  hint: "the core is truncated or damaged in QEMU's own memory; take it again in full",
});

const cutByTruncation = (block: RamBlock, bytes: number): Warning => ({
  code: "RAM004",
  message: `${bytesText(bytes)} of ${block.idstr} lie beyond the end of the truncated core`,
  hint: "take the core again: check ulimit -c, ProcessSizeMax/ExternalSizeMax of systemd-coredump, and free space",
});

function leftOut(context: MissingContext, mapped: MappedBlock, bytes: number, at: number): Warning {
  const { block, backend } = mapped;
  const what = `${bytesText(bytes)} of ${block.idstr} are not in this core`;
  const path = rangeAt(context.image.files, at)?.path;
  const cure = fileInstead(context, block, path);
  const setting = excludedBy(context, mapped, path);
  if (setting !== undefined) {
    return {
      code: "RAM002",
      message: `${what}: QEMU excluded guest memory from core dumps (${setting})`,
      hint: `start QEMU with dump-guest-core=on${backend ? " and the backend with dump=on" : ""}${cure}`,
    };
  }
  const bit = filterBit(block, path);
  const filter = DEFAULT_FILTER | (1 << FILTER_BITS[bit]);
  return {
    code: bit.startsWith("hugetlb") ? "RAM003" : "RAM001",
    message: `${what}: ${describe(bit)}${path === undefined ? "" : ` (${path})`} needs coredump_filter bit ${FILTER_BITS[bit]}`,
    hint: `echo 0x${filter.toString(16)} > /proc/PID/coredump_filter before the dump${cure}`,
  };
}

/** The setting by which QEMU excluded a block; undefined when it did not. */
function excludedBy(
  { mapped, unwritten, off }: MissingContext,
  { block, backend, dump }: MappedBlock,
  path: string | undefined,
): string | undefined {
  if (off === true) return "dump-guest-core=off";
  if (dump === false)
    return `${unwritten.machineDumps ? "" : "dump-guest-core=off, or "}dump=off on the backend`;
  // Written private memory is kept by the default filter.
  if (path !== undefined || block.pageSize !== 4096 || block.shared) return undefined;
  // A backend's default is the machine's setting.
  if (!backend && mapped.some((other) => other.dump === false)) return "dump-guest-core=off";
  const own = backend && dump === undefined ? ", dump=off on the backend" : "";
  return `dump-guest-core=off${own}, or it was never written to, or whoever made the core left it out`;
}

/** Which file can stand in for a block. That of a private mapping has nothing of what the guest wrote. */
function fileInstead({ unwritten }: MissingContext, block: RamBlock, path: string | undefined): string {
  const isWritten = !unwritten.file.has(block.idstr);
  if (!block.shared && path !== undefined && isWritten)
    return "; the file behind it does not have what the guest wrote";
  const named = path?.startsWith("/") === true && !path.endsWith(" (deleted)") ? path : undefined;
  const contents = shellWord(`${block.idstr}=${named ?? "PATH"}`);
  return `; pass --ram ${contents} if ${named === undefined ? "you have its contents" : "that file still has the guest's memory"}`;
}

function filterBit(block: RamBlock, path: string | undefined): FilterBit {
  if (block.pageSize > 4096 || /^\/(anon_hugepage|dev\/hugepages)/.test(path ?? "")) {
    return block.shared ? "hugetlbShared" : "hugetlbPrivate";
  }
  const unnamed = path === undefined || path.endsWith(" (deleted)");
  if (block.shared) return unnamed ? "anonymousShared" : "fileShared";
  return unnamed ? "anonymousPrivate" : "filePrivate";
}

const describe = (bit: FilterBit): string =>
  ({
    anonymousPrivate: "private memory",
    anonymousShared: "shared memory without a file name",
    filePrivate: "a private mapping of a file",
    fileShared: "a shared mapping of a file",
    hugetlbPrivate: "private hugetlbfs memory",
    hugetlbShared: "shared hugetlbfs memory",
  })[bit];
