import type { ProcessImage } from "../core/process.ts";
import { rangeAt } from "../core/ranges.ts";
import { bytesText, shellWord } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import type { RamBlock } from "./memory.ts";

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

/** A block is one mapping, or a few; beyond this the core is not a real one and the numbers do not matter. */
const MAX_EXTENTS = 65_536;

/** A block that guest memory is mapped from, and whether a memory backend owns it. */
export interface MappedBlock {
  readonly block: RamBlock;
  readonly backend: boolean;
}

/**
 * Blocks that are private anonymous memory nobody ever wrote to. The kernel dumps no such mapping (vma_dump_size:
 * no anon_vma), just as it dumps none that QEMU marked MADV_DONTDUMP. Only memory backends can be marked one by one;
 * all other blocks follow `dump-guest-core`, so when one of those is in the core, the rest were left out as untouched.
 */
export function untouchedBlocks(image: ProcessImage, mapped: readonly MappedBlock[]): ReadonlySet<string> {
  const own = mapped.filter(
    ({ block, backend }) => !backend && block.readable && isPrivateAnonymous(image, block),
  );
  const isDumped = ({ block }: MappedBlock) =>
    (rangeAt(image.mappings, block.host)?.dumpedEnd ?? 0) > block.host;
  if (!own.some(isDumped)) return new Set();
  return new Set(own.filter((candidate) => !isDumped(candidate)).map(({ block }) => block.idstr));
}

const isPrivateAnonymous = (image: ProcessImage, block: RamBlock): boolean =>
  !block.shared && block.pageSize === 4096 && rangeAt(image.files, block.host) === undefined;

/** Names of the blocks of which the core lacks something that was not left out as untouched. */
export const incompleteBlocks = (
  image: ProcessImage,
  mapped: readonly MappedBlock[],
  untouched: ReadonlySet<string>,
): ReadonlySet<string> =>
  new Set(
    mapped.flatMap(({ block }) => {
      const { truncated, absent } = missingBytes(image, block);
      return truncated + absent > 0 && !untouched.has(block.idstr) ? [block.idstr] : [];
    }),
  );

/** Says for every block that is not whole in the core how much is missing, why, and what would have kept it. */
export function explainMissing(
  image: ProcessImage,
  mapped: readonly MappedBlock[],
  covered: ReadonlySet<string>,
  dumpGuestCoreOff: boolean,
): Warning[] {
  const warnings: Warning[] = [];
  for (const { block, backend } of mapped) {
    if (covered.has(block.idstr)) continue;
    if (!block.readable) {
      warnings.push(unreadable(block));
      continue;
    }
    const { truncated, absent, firstAbsent } = missingBytes(image, block);
    if (truncated > 0) warnings.push(cutByTruncation(block, truncated));
    if (absent > 0) warnings.push(leftOut(image, block, absent, firstAbsent, dumpGuestCoreOff, backend));
  }
  return warnings;
}

function missingBytes(image: ProcessImage, block: RamBlock) {
  const end = block.host + block.usedLength;
  let truncated = 0;
  let absent = 0;
  let firstAbsent = block.host;
  for (let at = block.host, steps = 0; at < end && steps < MAX_EXTENTS; steps++) {
    const extent = image.extentAt(at, end);
    if (extent.state !== "present") {
      const dumpedEnd = rangeAt(image.mappings, at)?.dumpedEnd ?? at;
      const claimed = Math.max(0, Math.min(dumpedEnd, extent.end) - at);
      truncated += claimed;
      if (absent === 0) firstAbsent = at + claimed;
      absent += extent.end - at - claimed;
    }
    at = extent.end;
  }
  return { truncated, absent, firstAbsent };
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

function leftOut(
  image: ProcessImage,
  block: RamBlock,
  bytes: number,
  at: number,
  dumpGuestCoreOff: boolean,
  backend: boolean,
): Warning {
  const what = `${bytesText(bytes)} of ${block.idstr} are not in this core`;
  const path = rangeAt(image.files, at)?.path;
  const named = path?.startsWith("/") === true && !path.endsWith(" (deleted)") ? path : undefined;
  const contents = shellWord(`${block.idstr}=${named ?? "PATH"}`);
  const cure = ` pass --ram ${contents} if ${named === undefined ? "you have its contents" : "that file still has the guest's memory"}`;
  if (dumpGuestCoreOff || (path === undefined && block.pageSize === 4096 && !block.shared)) {
    const others = dumpGuestCoreOff
      ? ""
      : backend
        ? ", dump=off on the backend, or it was never written to"
        : "";
    return {
      code: "RAM002",
      message: `${what}: QEMU excluded guest memory from core dumps (dump-guest-core=off${others})`,
      hint: `start QEMU with dump-guest-core=on${backend ? " and the backend with dump=on" : ""};${cure}`,
    };
  }
  const bit = filterBit(block, path);
  const filter = DEFAULT_FILTER | (1 << FILTER_BITS[bit]);
  return {
    code: bit.startsWith("hugetlb") ? "RAM003" : "RAM001",
    message: `${what}: ${describe(bit)}${path === undefined ? "" : ` (${path})`} needs coredump_filter bit ${FILTER_BITS[bit]}`,
    hint: `echo 0x${filter.toString(16)} > /proc/PID/coredump_filter before the dump;${cure}`,
  };
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
