/** Control-register, RFLAGS and EFER bits (Intel SDM Vol. 3A §2.3, §2.5, §2.2.1; AMD APM Vol. 2 §3.1). */

export const CR0_PE = 1n << 0n;
export const CR0_PG = 1n << 31n;
export const CR4_PSE = 1n << 4n;
export const CR4_PAE = 1n << 5n;
export const CR4_LA57 = 1n << 12n;
export const EFER_SCE = 1n << 0n;
export const EFER_LME = 1n << 8n;
export const EFER_LMA = 1n << 10n;
/** Bit 1 of RFLAGS is always set. */
export const RFLAGS_FIXED = 1n << 1n;
/** Bits of CR3 that hold the page-table root's frame (4- and 5-level paging, SDM Vol. 3A Table 4-12). */
export const CR3_FRAME = 0x000f_ffff_ffff_f000n;
