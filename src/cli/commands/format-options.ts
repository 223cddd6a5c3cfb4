import { type Command, Option } from "commander";
import type { VmcoreStyle } from "../../jobs/vmcore-style.ts";

/** Options of every command that writes a vmcore. */
export interface FormatFlags {
  readonly format: VmcoreStyle["format"];
  readonly compress?: VmcoreStyle["compress"];
  readonly dumpLevel?: "0" | "1";
}

export const withFormatOptions = (command: Command): Command =>
  command
    .addOption(
      new Option("--format <format>", "what to write: ELF vmcore, kdump-compressed, its stream, …")
        .choices(["elf", "kdump", "flat", "raw", "lime"])
        .default("elf"),
    )
    .addOption(
      new Option("--compress <codec>", "of kdump and flat: how pages are compressed (default: zlib)").choices(
        ["zlib", "lzo", "snappy", "zstd", "none"],
      ),
    )
    .addOption(
      new Option(
        "-d, --dump-level <level>",
        "of kdump and flat: 0 stores every page of zeros (default: 1)",
      ).choices(["0", "1"]),
    );

export const styleOf = ({ format, compress, dumpLevel }: FormatFlags): VmcoreStyle => ({
  format,
  compress,
  dumpLevel: dumpLevel === undefined ? undefined : dumpLevel === "0" ? 0 : 1,
});
