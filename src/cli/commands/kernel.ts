import { Argument, type Command } from "commander";
import { UnavailableError } from "../../core/errors.ts";
import { type JobFlags, jobContext, withJobOptions } from "../context.ts";
import { deliver, prepareDelivery } from "../deliver.ts";
import { ToldError } from "../errors.ts";
import { withExamples } from "../examples.ts";
import type { AddCommand, Terminal } from "../terminal.ts";
import { filesOf, type HostFlags, hostOptionsOf, withHostOptions, withLayoutOption } from "./host-options.ts";

const EXAMPLES = [
  "guestcore kernel vmcore                                what the dumped kernel says of itself",
  "guestcore kernel vmcore --tasks --modules",
  "guestcore kernel vmcore --symbol kvm_vcpu_kick --symbol 0xffffffffa9c3d127",
  "guestcore kernel vmcore --type kvm_vcpu.arch.regs      offset, size and type of a member",
  "guestcore kernel vmcore --guest 1 --json | jq .result.machine",
  "guestcore kernel old.vmcore --vmlinux vmlinux --btf vmlinux   of a kernel without BTF",
];

interface KernelCommandFlags extends JobFlags, HostFlags {
  readonly guest: string | undefined;
  readonly modules: boolean;
  readonly tasks: boolean;
  readonly symbol: readonly string[];
  readonly type: readonly string[];
  readonly force: boolean;
}

export const kernelCommand: AddCommand = (program, terminal) =>
  withJobOptions(
    withHostOptions(withLayoutOption(kernelOptions(withExamples(program.command("kernel"), EXAMPLES)))),
  )
    .summary("describe the kernel of a dumped machine or guest, its tasks, modules, symbols, types")
    .description(
      "Describes the Linux kernel of a dumped machine, of a guest of a dumped host, or of the guest in the core of a\nqemu process, by the symbols (kallsyms) and types (BTF) in its own memory; no vmlinux is needed.",
    )
    .usage("FILE [options]")
    .addArgument(new Argument("<file>", "vmcore, or core of a qemu process"))
    .action((file: string, flags: KernelCommandFlags) => run(file, flags, terminal));

const kernelOptions = (command: Command): Command =>
  command
    .option("--guest <n|name>", "of a host's vmcore the kernel of this guest")
    .option("--tasks", "list processes and threads", false)
    .option("--modules", "list modules", false)
    .option("--symbol <name|address>", "where a symbol is, what an address is; repeatable", collect, [])
    .option("--type <name>", "a type as C, or where a member is: kvm_vcpu.arch.regs; repeatable", collect, [])
    .option("--force", "replace an existing --json-file", false);

const collect = (text: string, before: readonly string[]): string[] => [...before, text];

/** @throws ToldError when something that was asked for is not there */
async function run(path: string, flags: KernelCommandFlags, terminal: Terminal): Promise<void> {
  const files = filesOf(path, flags);
  prepareDelivery(flags, files);
  const [{ answersAll, describeKernel }, { kernelText }, { kernelJson }] = await Promise.all([
    import("../../jobs/kernel.ts"),
    import("../../report/kernel.ts"),
    import("../../report/kernel-json.ts"),
  ]);
  const options = {
    guest: flags.guest,
    host: hostOptionsOf(flags),
    symbols: flags.symbol,
    types: flags.type,
  };
  const result = await describeKernel(path, options, jobContext(terminal, flags));
  deliver(
    terminal,
    flags,
    {
      kind: "kernel",
      inputs: [result.input],
      warnings: result.warnings,
      result: kernelJson(result),
      text: kernelText(result, flags),
    },
    files,
  );
  if (!answersAll(result)) throw new ToldError(new UnavailableError("").exitCode);
}
