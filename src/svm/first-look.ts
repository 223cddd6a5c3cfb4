/**
 * The first look at every page of a dump. Four loads reject all but one page in ten thousand; what is left goes to
 * `score.ts`. 32-bit loads, since a scan passes hundreds of millions of pages.
 */
const EFER = 0x4d0;
const RFLAGS = 0x570;
const CR0 = 0x558;
const INTERCEPT_WORD3 = 0x0c;
const INTERCEPT_WORD4 = 0x10;
const ASID = 0x58;

const SVME = 1 << 12;
const EFER_UNKNOWN = ~0x36_fd01;
/** Bit 1 is always set, these others never (APM Vol. 2 §3.1.6); bits 63:32 are zero too. */
const RFLAGS_RESERVED = 0xffc0_802a;
const RFLAGS_FIXED = 2;
const INTERCEPT_VMRUN = 1;

/**
 * Whether a page may be a VMCB that VMRUN accepted once, or a host save area, whose control area is unused. Processors
 * may keep host state elsewhere than there (APM Vol. 2 §15.5.1); such an area does not pass.
 * @param view physical memory; @param offset of a whole page in it
 */
export function mayBeVmcb(view: DataView, offset: number): boolean {
  const efer = view.getUint32(offset + EFER, true);
  if ((efer & SVME) === 0 || (efer & EFER_UNKNOWN) !== 0) return false;
  if ((view.getUint32(offset + RFLAGS, true) & RFLAGS_RESERVED) !== RFLAGS_FIXED) return false;
  if (
    (upperHalf(view, offset + EFER) | upperHalf(view, offset + RFLAGS) | upperHalf(view, offset + CR0)) !==
    0
  ) {
    return false;
  }
  const word4 = view.getUint32(offset + INTERCEPT_WORD4, true);
  if ((word4 & INTERCEPT_VMRUN) !== 0) return true;
  return (word4 | view.getUint32(offset + INTERCEPT_WORD3, true) | view.getUint32(offset + ASID, true)) === 0;
}

const upperHalf = (view: DataView, offset: number): number => view.getUint32(offset + 4, true);
