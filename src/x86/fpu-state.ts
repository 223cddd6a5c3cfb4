/** Floating-point and vector registers of a thread or a vCPU, in the forms that core files have. */
export interface FpuState {
  /** user_fpregs_struct: FXSAVE's 512 bytes. */
  readonly legacy: Buffer;
  /** XSAVE's standard form with x87, SSE and AVX; undefined for a processor without AVX. */
  readonly extended: Buffer | undefined;
}

/** XSAVE area (Intel SDM vol. 1 ch. 13): FXSAVE's, a header, components; AVX is the first in both forms. */
const LEGACY_SIZE = 512;
const AVX_AT = 576;
const AVX_SIZE = 256;
/** Bytes of an XSAVE area that are read: what lies behind AVX is not. */
export const XSAVE_SIZE = AVX_AT + AVX_SIZE;
const AT = { mxcsr: 24, mxcsrMask: 28, st: 32, xmm: 160, xmmEnd: 416, software: 464, components: 512 };
const COMPACTED_AT = 520;
const X87 = 1;
const SSE = 2;
const AVX = 4;
/** Reset values: what a component holds whose bit in XSTATE_BV is 0. */
const FCW_RESET = 0x37f;
const MXCSR_RESET = 0x1f80;
/** Both forms in one area of 832 bytes: the longer one where there is one, else FXSAVE's and zeros. */
export function encodeFpuState({ legacy, extended }: FpuState): Buffer {
  return Buffer.concat([extended ?? legacy], XSAVE_SIZE);
}

/** What `encodeFpuState` wrote. @param hasAvx whether the longer form was there */
export function decodeFpuState(area: Buffer, hasAvx: boolean): FpuState {
  const legacy = Buffer.alloc(LEGACY_SIZE);
  area.copy(legacy, 0, 0, AT.xmmEnd);
  return { legacy, extended: hasAvx ? Buffer.from(area.subarray(0, XSAVE_SIZE)) : undefined };
}

/**
 * @param area 832 bytes of an XSAVE area, standard or compacted
 * @returns undefined for one that XSAVE never wrote
 */
export function fpuStateOf(area: Buffer): FpuState | undefined {
  const valid = area.readUInt32LE(AT.components);
  const compacted = area.readBigUInt64LE(COMPACTED_AT);
  // Hosts without XSAVE leave the header zero; so does one whose every component is in its initial state.
  if (valid === 0 && compacted === 0n) return undefined;
  const legacy = Buffer.alloc(LEGACY_SIZE);
  area.copy(legacy, AT.mxcsrMask, AT.mxcsrMask, AT.st);
  if ((valid & X87) !== 0) {
    area.copy(legacy, 0, 0, AT.mxcsr);
    area.copy(legacy, AT.st, AT.st, AT.xmm);
  } else legacy.writeUInt16LE(FCW_RESET, 0);
  if ((valid & (SSE | AVX)) !== 0) area.copy(legacy, AT.mxcsr, AT.mxcsr, AT.mxcsrMask);
  else legacy.writeUInt32LE(MXCSR_RESET, AT.mxcsr);
  if ((valid & SSE) !== 0) area.copy(legacy, AT.xmm, AT.xmm, AT.xmmEnd);
  const hasAvx = (valid & AVX) !== 0 || (compacted & BigInt(AVX)) !== 0n;
  if (!hasAvx) return { legacy, extended: undefined };
  const extended = Buffer.alloc(XSAVE_SIZE);
  legacy.copy(extended);
  // Where the kernel tells debuggers the mask of components (struct _fpx_sw_bytes.xfeatures in a core's note).
  extended.writeUInt32LE(X87 | SSE | AVX, AT.software);
  extended.writeUInt32LE(valid & (X87 | SSE | AVX), AT.components);
  if ((valid & AVX) !== 0) area.copy(extended, AVX_AT, AVX_AT, XSAVE_SIZE);
  return { legacy, extended };
}
