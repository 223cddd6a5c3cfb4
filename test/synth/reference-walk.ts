/**
 * A second, slow page walk straight from the manuals, one bigint at a time, to compare the real one with.
 * It shares nothing with src.
 */
export type Mode = "5-level" | "4-level" | "PAE" | "32-bit" | "32-bit PSE";

/** Little-endian value of `size` bytes at a physical address; undefined where there is no memory. */
export type ReadEntry = (address: bigint, size: number) => bigint | undefined;

export interface ReferenceMapping {
  readonly physical: bigint;
  readonly pageSize: bigint;
  readonly writable: boolean;
  readonly user: boolean;
  readonly executable: boolean;
}

export type ReferenceFault = "not-present" | "reserved-bits" | "table-missing" | "non-canonical";

const field = (value: bigint, high: number, low: number): bigint =>
  (value >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n);
const flag = (value: bigint, position: number): boolean => field(value, position, position) === 1n;

export function referenceWalk(
  mode: Mode,
  read: ReadEntry,
  root: bigint,
  virtual: bigint,
): ReferenceMapping | ReferenceFault {
  if (mode === "32-bit" || mode === "32-bit PSE") return walk32(mode === "32-bit PSE", read, root, virtual);
  if (mode === "PAE") return walkPae(read, root, virtual);
  return walkLong(mode === "5-level" ? 5 : 4, read, root, virtual);
}

function walkLong(levels: number, read: ReadEntry, root: bigint, virtual: bigint) {
  const top = levels === 5 ? 56 : 47;
  const above = field(virtual, 63, top);
  if (virtual < 0n || virtual >= 1n << 64n) return "non-canonical";
  if (above !== 0n && above !== (1n << BigInt(64 - top)) - 1n) return "non-canonical";
  let table = field(root, 51, 12) << 12n;
  let writable = true;
  let user = true;
  let executable = true;
  for (let level = levels; level >= 1; level--) {
    const low = 12 + 9 * (level - 1);
    const entry = read(table + field(virtual, low + 8, low) * 8n, 8);
    if (entry === undefined) return "table-missing";
    if (!flag(entry, 0)) return "not-present";
    writable &&= flag(entry, 1);
    user &&= flag(entry, 2);
    executable &&= !flag(entry, 63);
    if (level > 3 && flag(entry, 7)) return "reserved-bits";
    if (level === 1 || (level <= 3 && flag(entry, 7))) {
      // A large page's address starts above bit 12, which is PAT there.
      if (level > 1 && field(entry, low - 1, 13) !== 0n) return "reserved-bits";
      const frame = field(entry, 51, low) << BigInt(low);
      const physical = frame + field(virtual, low - 1, 0);
      return { physical, pageSize: 1n << BigInt(low), writable, user, executable };
    }
    table = field(entry, 51, 12) << 12n;
  }
  throw new Error("unreachable");
}

function walkPae(read: ReadEntry, root: bigint, virtual: bigint) {
  if (virtual < 0n || virtual >= 1n << 32n) return "non-canonical";
  const pdpte = read((field(root, 31, 5) << 5n) + field(virtual, 31, 30) * 8n, 8);
  if (pdpte === undefined) return "table-missing";
  if (!flag(pdpte, 0)) return "not-present";
  // Bit 5 is reserved by the manual and set by an emulator.
  if (field(pdpte, 2, 1) !== 0n || field(pdpte, 8, 6) !== 0n || field(pdpte, 63, 52) !== 0n) {
    return "reserved-bits";
  }
  const pde = read((field(pdpte, 51, 12) << 12n) + field(virtual, 29, 21) * 8n, 8);
  if (pde === undefined) return "table-missing";
  if (!flag(pde, 0)) return "not-present";
  if (field(pde, 62, 52) !== 0n) return "reserved-bits";
  if (flag(pde, 7)) {
    if (field(pde, 20, 13) !== 0n) return "reserved-bits";
    const physical = (field(pde, 51, 21) << 21n) + field(virtual, 20, 0);
    return {
      physical,
      pageSize: 1n << 21n,
      writable: flag(pde, 1),
      user: flag(pde, 2),
      executable: !flag(pde, 63),
    };
  }
  const pte = read((field(pde, 51, 12) << 12n) + field(virtual, 20, 12) * 8n, 8);
  if (pte === undefined) return "table-missing";
  if (!flag(pte, 0)) return "not-present";
  if (field(pte, 62, 52) !== 0n) return "reserved-bits";
  return {
    physical: (field(pte, 51, 12) << 12n) + field(virtual, 11, 0),
    pageSize: 4096n,
    writable: flag(pde, 1) && flag(pte, 1),
    user: flag(pde, 2) && flag(pte, 2),
    executable: !flag(pde, 63) && !flag(pte, 63),
  };
}

function walk32(pse: boolean, read: ReadEntry, root: bigint, virtual: bigint) {
  if (virtual < 0n || virtual >= 1n << 32n) return "non-canonical";
  const pde = read((field(root, 31, 12) << 12n) + field(virtual, 31, 22) * 4n, 4);
  if (pde === undefined) return "table-missing";
  if (!flag(pde, 0)) return "not-present";
  if (pse && flag(pde, 7)) {
    if (flag(pde, 21)) return "reserved-bits";
    const physical = (field(pde, 20, 13) << 32n) + (field(pde, 31, 22) << 22n) + field(virtual, 21, 0);
    return { physical, pageSize: 1n << 22n, writable: flag(pde, 1), user: flag(pde, 2), executable: true };
  }
  const pte = read((field(pde, 31, 12) << 12n) + field(virtual, 21, 12) * 4n, 4);
  if (pte === undefined) return "table-missing";
  if (!flag(pte, 0)) return "not-present";
  return {
    physical: (field(pte, 31, 12) << 12n) + field(virtual, 11, 0),
    pageSize: 4096n,
    writable: flag(pde, 1) && flag(pte, 1),
    user: flag(pde, 2) && flag(pte, 2),
    executable: true,
  };
}
