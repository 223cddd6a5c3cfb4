/** A symbol of the kernel or of a module. */
export interface KernelSymbol {
  readonly name: string;
  readonly address: bigint;
  /** As nm(1) has it: T, t, D, d, B, b, R, r, A, V, W, …; "?" where it is not known. */
  readonly type: string;
  /** Of the module that has it. */
  readonly module?: string | undefined;
}

/** A kernel's symbols, wherever they were read. */
export interface KernelSymbols {
  /** The first symbol of that name, the kernel's own before a module's. */
  addressOf(name: string): bigint | undefined;
  /** All of that name: statics share names. */
  named(name: string): readonly KernelSymbol[];
  /** The last symbol at or before an address, and how far behind it the address is. */
  at(address: bigint): { readonly symbol: KernelSymbol; readonly offset: bigint } | undefined;
}
