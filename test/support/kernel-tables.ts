import type { KernelSymbol, KernelSymbols } from "../../src/kernel/symbols.ts";
import type { KernelTypes, Member } from "../../src/kernel/types.ts";

/** Offset, and where they are not 8 and 1, size of an element and number of elements. */
export type MemberRow = number | readonly [offset: number, stride: number, count?: number];

/** Types by a table, for tests of what uses them. */
export function typesOf(
  members: Readonly<Record<string, MemberRow>>,
  sizes: Readonly<Record<string, number>> = {},
  constants: Readonly<Record<string, bigint>> = {},
): KernelTypes {
  return {
    sizeOf: (type) => sizes[type],
    member(path): Member | undefined {
      const row = members[path];
      if (row === undefined) return undefined;
      const [offset, stride, count = 1] = typeof row === "number" ? [row, 8] : row;
      return { offset, size: stride * count, count, stride };
    },
    constant: (name) => constants[name],
  };
}

/** Symbols by a table. */
export function symbolsOf(addresses: Readonly<Record<string, bigint>>): KernelSymbols {
  const named = (name: string): readonly KernelSymbol[] => {
    const address = addresses[name];
    return address === undefined ? [] : [{ name, address, type: "?" }];
  };
  return { named, addressOf: (name) => addresses[name], at: () => undefined };
}

/** Members of Debian's 6.1.0-56 (amd64 and cloud-amd64 alike), from their BTF. */
export const DEBIAN_6_1 = typesOf(
  {
    "task_struct.tasks": [2192, 16],
    "task_struct.pid": [2416, 4],
    "task_struct.tgid": [2420, 4],
    "task_struct.comm": [2976, 1, 16],
    "task_struct.mm": 2272,
    "task_struct.__state": [24, 4],
    "task_struct.exit_state": [2308, 4],
    "task_struct.signal": 3072,
    "task_struct.thread_node": [2608, 16],
    "signal_struct.thread_head": [16, 16],
    "mm_struct.pgd": 72,
    "mm_struct.mm_mt": [0, 24],
    "mm_struct.arg_start": 312,
    "mm_struct.arg_end": 320,
    "vm_area_struct.vm_start": 0,
    "vm_area_struct.vm_end": 8,
    "vm_area_struct.vm_flags": 32,
    "vm_area_struct.vm_pgoff": 104,
    "vm_area_struct.vm_file": 112,
    "file.f_mapping": 216,
    "address_space.i_pages": [8, 16],
    "address_space.a_ops": 144,
    "xarray.xa_head": 8,
    "xa_node.shift": [0, 1],
    "xa_node.slots": [40, 8, 64],
    "maple_tree.ma_root": 8,
    "maple_node.slot": [8, 8, 31],
    "maple_range_64.pivot": [8, 8, 15],
    "maple_range_64.slot": [128, 8, 16],
    "maple_arange_64.pivot": [8, 8, 9],
    "maple_arange_64.slot": [80, 8, 10],
    "rb_node.rb_right": 8,
    "rb_node.rb_left": 16,
    "page.compound_head": 8,
    "page.index": 32,
  },
  { page: 64 },
  { maple_dense: 0n, maple_leaf_64: 1n, maple_range_64: 2n, maple_arange_64: 3n },
);
