import { type DeviceRegion, type PlacedBlock, sizeOf } from "./qemu-blocks.ts";
import type { ObjectWriter, Subregion } from "./qemu-objects.ts";

/**
 * The tree of memory regions under "system" that QEMU renders its FlatView from, in the shape `info mtree` shows:
 * system → ram-below-4g and ram-above-4g (aliases of the main RAM), pam-rom (read-only aliases over them), devices,
 * pci (priority −1) → firmware and BARs, device-memory → DIMMs.
 */

const FOUR_GIB = 0x1_0000_0000;
/** Hot-pluggable memory starts on a GiB. */
const GIB = 0x4000_0000;
const WHOLE = 1n << 64n;

/** Guest addresses that show consecutive bytes of one region. */
interface Run {
  readonly gpa: number;
  readonly offset: number;
  size: number;
}

export function growTree(
  writer: ObjectWriter,
  system: number,
  parent: number,
  blocks: readonly PlacedBlock[],
  devices: readonly DeviceRegion[],
): void {
  const pci = writer.region({ name: "pci", size: WHOLE, parent });
  const mapped = blocks.filter(({ spec }) => spec.map.length > 0);
  const hotplug = mapped.filter(({ spec }) => spec.deviceMemory === true);
  const initial = mapped.filter(({ spec }) => spec.kind === "ram" && spec.deviceMemory !== true);
  const others = mapped.filter((block) => !hotplug.includes(block) && !initial.includes(block));
  writer.setSubregions(
    pci,
    others.flatMap((block) => showBlock(writer, block, parent)),
  );
  writer.setSubregions(system, [
    { region: pci, addr: 0, priority: -1 },
    ...showMainRam(writer, initial, parent),
    ...showDeviceMemory(writer, hotplug, parent),
    ...devices.map(({ region, gpa, priority }) => ({ region, addr: gpa, priority })),
  ]);
}

/** A block at one place is put there itself; parts of it, or several places, need aliases. */
function showBlock(writer: ObjectWriter, block: PlacedBlock, parent: number): Subregion[] {
  const [only, second] = block.spec.map;
  const size = block.spec.used ?? block.spec.size;
  if (
    only !== undefined &&
    second === undefined &&
    sizeOf(block.spec, only) === size &&
    only.readonly !== true
  ) {
    return [{ region: block.region, addr: only.gpa, priority: 1 }];
  }
  return block.spec.map.map((part) => {
    const alias = { alias: block.region, aliasOffset: part.offset ?? 0, readonly: part.readonly === true };
    const region = writer.region({ name: "alias", size: BigInt(sizeOf(block.spec, part)), parent, ...alias });
    return { region, addr: part.gpa, priority: 1 };
  });
}

/** Several NUMA backends lie one behind the other in a container, of which the aliases show parts. */
function showMainRam(writer: ObjectWriter, blocks: readonly PlacedBlock[], parent: number): Subregion[] {
  const [only, second] = blocks;
  if (only === undefined) return [];
  if (second === undefined) return aliasesOf(writer, only, only.region, 0, parent);
  const starts: number[] = [];
  let end = 0;
  for (const { spec } of blocks) {
    starts.push(end);
    end += spec.size;
  }
  const container = writer.region({ name: "pc.ram", size: BigInt(end), parent });
  writer.setSubregions(
    container,
    blocks.map(({ region }, i) => ({ region, addr: starts[i]!, priority: 0 })),
  );
  return blocks.flatMap((block, i) => aliasesOf(writer, block, container, starts[i]!, parent));
}

/** ram-below-4g and ram-above-4g, pam-rom over what is read-only, and the disabled twin every pam-rom has. */
function aliasesOf(
  writer: ObjectWriter,
  { spec }: PlacedBlock,
  target: number,
  start: number,
  parent: number,
): Subregion[] {
  const runs: Run[] = [];
  for (const part of spec.map) {
    const offset = part.offset ?? 0;
    const last = runs.at(-1);
    const follows =
      last !== undefined && last.gpa + last.size === part.gpa && last.offset + last.size === offset;
    if (follows) last.size += sizeOf(spec, part);
    else runs.push({ gpa: part.gpa, offset, size: sizeOf(spec, part) });
  }
  const alias = (name: string, run: Run, more: { readonly?: boolean; enabled?: boolean } = {}) =>
    writer.region({
      name,
      size: BigInt(run.size),
      parent,
      alias: target,
      aliasOffset: start + run.offset,
      ...more,
    });
  const main = runs.map((run) => {
    const region = alias(run.gpa < FOUR_GIB ? "ram-below-4g" : "ram-above-4g", run);
    return { region, addr: run.gpa, priority: 0 };
  });
  const pam = spec.map
    .filter((part) => part.readonly === true)
    .flatMap((part) => {
      const run = { gpa: part.gpa, offset: part.offset ?? 0, size: sizeOf(spec, part) };
      return [
        { region: alias("pam-rom", run, { readonly: true }), addr: run.gpa, priority: 1 },
        { region: alias("pam-ram", run, { enabled: false }), addr: run.gpa, priority: 1 },
      ];
    });
  return [...main, ...pam];
}

function showDeviceMemory(writer: ObjectWriter, blocks: readonly PlacedBlock[], parent: number): Subregion[] {
  if (blocks.length === 0) return [];
  const places = blocks.flatMap(({ spec }) => spec.map.map((part) => part.gpa));
  const start = Math.floor(Math.min(...places) / GIB) * GIB;
  const end = Math.ceil((Math.max(...places) + 1) / GIB) * GIB;
  const container = writer.region({ name: "device-memory", size: BigInt(end - start), parent });
  const inside = blocks.flatMap((block) => showBlock(writer, block, parent));
  writer.setSubregions(
    container,
    inside.map((child) => ({ ...child, addr: child.addr - start })),
  );
  return [{ region: container, addr: start, priority: 0 }];
}
