import type { ProcessImage } from "../core/process.ts";
import { rangeAt } from "../core/ranges.ts";
import type { RamBlock } from "./memory.ts";

/** A block that guest memory is mapped from, and what keeps it in core dumps. */
export interface MappedBlock {
  readonly block: RamBlock;
  /** Whether a memory backend owns it. */
  readonly backend: boolean;
  /** The backend's `dump` property, where known. */
  readonly dump: boolean | undefined;
}

/** Names of private blocks that nobody ever wrote to. */
export interface UnwrittenBlocks {
  /** Whether dump-guest-core is known to be on. */
  readonly machineDumps: boolean;
  /** Anonymous memory: zero. */
  readonly zero: ReadonlySet<string>;
  /** A private mapping of a file: what the file holds. */
  readonly file: ReadonlySet<string>;
}

/** Whether `-machine dump-guest-core=off` was given; undefined where the command line is not known. */
export const dumpGuestCoreOff = (commandLine: readonly string[] | undefined): boolean | undefined =>
  commandLine?.some((argument) => /\bdump-guest-core=(off|no|false|n)\b/.test(argument));

/**
 * The kernel dumps no private mapping that was never written to (`fs/coredump.c` vma_dump_size: no anon_vma), and none
 * that is marked MADV_DONTDUMP. QEMU marks every block under dump-guest-core=off (`qemu_ram_setup_dump`), and those of
 * backends with dump=off; what is private, was not marked and is not in the core was left out as unwritten. That
 * coredump_filter has bit 0, by which written private memory is kept, shows in QEMU's heap being there.
 * @param off what `dumpGuestCoreOff` says
 */
export function findUnwritten(
  image: ProcessImage,
  mapped: readonly MappedBlock[],
  off: boolean | undefined,
): UnwrittenBlocks {
  const isFile = ({ host }: RamBlock) => rangeAt(image.files, host) !== undefined;
  const isDumped = ({ host }: RamBlock) => (rangeAt(image.mappings, host)?.dumpedEnd ?? 0) > host;
  const own = mapped.filter(({ block }) => block.readable && isPrivate(block));
  const machineDumps =
    own.some(({ block, backend }) => !backend && !isFile(block) && isDumped(block)) ||
    // A backend's default is the machine's setting; a command line that is known would show another one.
    (off === false && mapped.some(({ dump }) => dump === true));
  const unwritten = machineDumps
    ? own.filter(({ block, backend, dump }) => (!backend || dump === true) && !isDumped(block))
    : [];
  const names = (ofFile: boolean) =>
    new Set(unwritten.flatMap(({ block }) => (isFile(block) === ofFile ? [block.idstr] : [])));
  return { machineDumps, zero: names(false), file: names(true) };
}

/** Private memory that bit 0 of coredump_filter keeps: huge pages have a bit of their own. */
const isPrivate = ({ shared, pageSize }: RamBlock): boolean => !shared && pageSize === 4096;
