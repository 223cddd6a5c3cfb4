/** EFI_TIME: year u16, then month, day, hour, minute, second (UEFI specification §8.3); undefined for one that is none. */
export function efiTime(bytes: Buffer, offset = 0): string | undefined {
  const year = bytes.readUInt16LE(offset);
  const [month, day, hour, minute, second] = bytes.subarray(offset + 2, offset + 7);
  if (year < 1990 || month! < 1 || month! > 12 || day! < 1 || day! > 31) return undefined;
  const two = (value: number) => String(value).padStart(2, "0");
  return `${year}-${two(month!)}-${two(day!)}T${two(hour!)}:${two(minute!)}:${two(second!)}`;
}
