import { hex } from "../core/text.ts";
import { START_KERNEL_MAP } from "./kernel-tables.ts";
import type { LinuxImage } from "./linux-image.ts";
import type { KernelReader } from "./reader.ts";
import { SymbolTable } from "./symbol-table.ts";
import type { Vmcoreinfo } from "./vmcoreinfo.ts";
import type { Vmlinux } from "./vmlinux.ts";

/** A vmlinux's symbols where the running kernel has them, or why it is not that kernel's. */
export type PlacedVmlinux =
  | { readonly symbols: SymbolTable; readonly shift: bigint; readonly reason?: undefined }
  | { readonly symbols?: undefined; readonly shift?: undefined; readonly reason: string };

export interface VmlinuxPlace {
  readonly image: LinuxImage;
  readonly vmcoreinfo?: Vmcoreinfo | undefined;
}

const BANNER = "Linux version ";
/** Of `linux_banner`, which says the compiler too. */
const MAX_BANNER = 512;

/**
 * Moves a vmlinux's symbols to where KASLR put the kernel. A vmlinux of another kernel is refused: by its build-id, and
 * by the banner, which must lie where its symbol says.
 */
export function placeVmlinux(
  vmlinux: Vmlinux,
  reader: KernelReader,
  { image, vmcoreinfo }: VmlinuxPlace,
): PlacedVmlinux {
  const known = image.buildId?.value;
  if (known !== undefined && vmlinux.buildId !== undefined && known !== vmlinux.buildId) {
    return { reason: `it is of another kernel: its build-id is ${vmlinux.buildId}, not ${known}` };
  }
  const linked = new SymbolTable(vmlinux.names, vmlinux.addresses);
  const shift = shiftOf(linked, image, vmcoreinfo);
  if (shift === undefined) return { reason: "how far KASLR moved the kernel is not known" };
  const start = linked.addressOf("_text") ?? linked.addressOf("_stext") ?? START_KERNEL_MAP;
  const end = linked.addressOf("_end") ?? start;
  // The image moves as a whole, with what is linked behind it; per-CPU offsets and absolute values (fixmap, vDSO) do not.
  const moves = (address: bigint, index: number): boolean =>
    address >= start && (address <= end || vmlinux.names.type(index).toUpperCase() !== "A");
  const addresses = vmlinux.addresses.map((address, index) =>
    moves(address, index) ? BigInt.asUintN(64, address + shift) : address,
  );
  const symbols = new SymbolTable(vmlinux.names, addresses);
  const reason = bannerProblem(symbols, reader, image);
  return reason === undefined ? { symbols, shift } : { reason };
}

function shiftOf(
  linked: SymbolTable,
  image: LinuxImage,
  vmcoreinfo: Vmcoreinfo | undefined,
): bigint | undefined {
  const places = [
    [vmcoreinfo?.symbol("_stext"), linked.addressOf("_stext")],
    [image.text?.value.virtual, linked.addressOf("_text")],
  ] as const;
  for (const [now, then] of places) if (now !== undefined && then !== undefined) return now - then;
  return image.kaslrOffset?.value;
}

/** Whether `linux_banner` is elsewhere, or is another's; a page that is missing tells nothing. */
function bannerProblem(symbols: SymbolTable, reader: KernelReader, image: LinuxImage): string | undefined {
  const at = symbols.addressOf("linux_banner");
  const text = at === undefined ? undefined : reader.text(at, MAX_BANNER);
  if (at === undefined || (text === undefined && reader.u8(at) === undefined)) return undefined;
  if (text === undefined || !text.startsWith(BANNER)) {
    return `it is of another kernel: no banner at ${hex(at)}, where its symbols put it`;
  }
  const release = image.release?.value;
  const isOther = release !== undefined && !text.startsWith(`${BANNER}${release} `);
  return isOther ? `it is of another kernel than ${release}` : undefined;
}
