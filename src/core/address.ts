/**
 * How addresses are kept.
 *
 * Physical addresses, file offsets and sizes are `number`, exact below 2^53: x86 physical addresses have at most
 * 52 bits (Intel SDM Vol. 3A §4.1.4, MAXPHYADDR). User-space virtual addresses of a qemu process are `number`
 * too: Linux gives a process at most 47 bits unless it asks for more (Documentation/arch/x86/x86_64/5level-paging.rst),
 * and discovery compares millions of them. Guest virtual addresses and register values are `bigint`.
 */
export const PAGE_SIZE = 4096;

/** Largest exact integer plus one; every address or offset kept as `number` is below it. */
export const ADDRESS_LIMIT = 2 ** 53;

/** Rounds down to a multiple of `size` without the 32-bit truncation of `&`. */
export const alignDown = (value: number, size: number): number => value - (value % size);
/** Rounds up to a multiple of `size`. */
export const alignUp = (value: number, size: number): number => alignDown(value + size - 1, size);
