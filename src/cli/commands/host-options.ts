import { type Command, Option } from "commander";
import { shellWord } from "../../core/text.ts";
import type { HostOptions, Virtualization } from "../../jobs/host.ts";
import { type DumpFlags, dumpNamingOf, dumpWordsOf, filesOfDump, withDumpOptions } from "./dump-options.ts";
import { type VmcsInfoFlags, withVmcsInfoOptions } from "./vmcsinfo-options.ts";

/** Options of every command that looks for guests in a host's dump. */
export interface HostFlags extends VmcsInfoFlags, DumpFlags {
  readonly vmcsinfo?: string;
  readonly layout?: string;
  readonly arch?: Virtualization;
  readonly btf?: string;
  readonly vmlinux?: string;
}

export const withHostOptions = (command: Command): Command =>
  withVmcsInfoOptions(
    withKernelFileOptions(
      withDumpOptions(command)
        .option("--vmcsinfo <file>", "where the processor keeps VMCS fields, for a dump without the note")
        .addOption(
          new Option("--arch <arch>", "look for Intel's or AMD's vCPUs only").choices(["vmx", "svm"]),
        ),
    ),
  );

/** Files that stand in for what a kernel does not tell itself. */
export const withKernelFileOptions = (command: Command): Command =>
  command
    .option("--btf <file>", "vmlinux, BTF or directory of them, for a kernel without types in its memory")
    .option("--vmlinux <file>", "ELF vmlinux, for a kernel without symbols in its memory");

export const withLayoutOption = (command: Command): Command =>
  command.option("--layout <name>", "VMCS layout to use: a name of `vmcs layout list`, or a file");

/** @throws UsageError for a map of a raw image that is none */
export const hostOptionsOf = (flags: HostFlags): HostOptions => {
  const { vmcsinfo, layout, arch, btf, vmlinux, numbers, accessRights } = flags;
  return { vmcsinfo, layout, arch, btf, vmlinux, numbers, accessRights, ...dumpNamingOf(flags) };
};

/** The same options as words of a shell. */
export const hostWordsOf = (flags: HostFlags): string[] => [
  ...dumpWordsOf(flags),
  ...(["vmcsinfo", "layout", "arch", "btf", "vmlinux"] as const).flatMap((name) => {
    const value = flags[name];
    return value === undefined ? [] : [`--${name}`, shellWord(value)];
  }),
];

/** Files that a command on a host's dump reads. */
export const filesOf = (path: string, flags: HostFlags): string[] => [
  path,
  ...filesOfDump(flags),
  ...[flags.vmcsinfo, flags.btf, flags.vmlinux].filter((file) => file !== undefined),
];
