import { UnsupportedError, UsageError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { bytesText, shellWord } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { openProcessCore, type ProcessCore } from "../dump/process-core.ts";
import { guestFromQemu } from "../guest/from-qemu.ts";
import type { Guest } from "../guest/guest.ts";
import { compressionOf, unpackingOf } from "../io/compressed.ts";
import { FileSource } from "../io/file.ts";
import { findMachine, type QemuMachine } from "../qemu/machine.ts";
import type { HostOptions } from "./host.ts";
import type { Input } from "./input.ts";
import { type UsedNote, withVcpuNotes } from "./vcpu-notes.ts";
import type { GuestInputs } from "./write-guest.ts";

/** The qemu process that ran a guest. */
export interface ProcessOrigin {
  readonly kind: "process";
  readonly core: ProcessCore;
  readonly machine: QemuMachine;
  /** Of vCPUs' VMCSs or VMCBs, ascending by vCPU; empty for a core that carries none. */
  readonly vcpuNotes: readonly UsedNote[];
}

export interface ProcessGuestOptions {
  /** RAMBlock → path of a file with its contents. */
  readonly ram: ReadonlyMap<string, string>;
  readonly layout: string | undefined;
  /** How VMCS notes are read: VMCSINFO in the place of the core's own. */
  readonly host?: HostOptions;
}

/**
 * Finds the guest in the core of a qemu process and hands it to `use`, while the files it is read from are open.
 * @throws UnsupportedError, UnavailableError; UsageError for RAMBlocks that are none; IoError
 */
export async function withProcessGuest<T>(
  input: Input,
  options: ProcessGuestOptions,
  warn: (warnings: readonly Warning[]) => void,
  context: JobContext,
  use: (guest: Guest, origin: ProcessOrigin, inputs: GuestInputs) => Promise<T>,
): Promise<T> {
  const ram = new Map<string, FileSource>();
  try {
    for (const [block, path] of options.ram) ram.set(block, FileSource.open(path));
    const core = openProcessCore(input.source);
    warn(core.warnings);
    const { layout } = options;
    const { checkpoint } = context;
    const machine = await findMachine(core, { ram, checkpoint, ...(layout === undefined ? {} : { layout }) });
    const noted = await withVcpuNotes(
      core.notes,
      machine,
      guestFromQemu(machine),
      options.host ?? {},
      context,
    );
    warn(noted.warnings);
    checkBlocks(machine, ram, warn);
    const files = [...ram.values()];
    return await use(
      noted.guest,
      { kind: "process", core, machine, vcpuNotes: noted.notes },
      {
        identities: [...input.facts.identities, ...files.map((file) => file.identity())],
        sizeOnDisk: files.reduce((total, file) => total + file.sizeOnDisk(), input.sizeOnDisk),
        hint: machine.warnings[0]?.hint ?? "take the core again with the guest's memory in it",
      },
    );
  } finally {
    for (const file of ram.values()) file.close();
  }
}

function checkBlocks(
  machine: QemuMachine,
  ram: ReadonlyMap<string, FileSource>,
  warn: (warnings: readonly Warning[]) => void,
): void {
  for (const [name, source] of ram) {
    const block = machine.blocks.find(({ idstr }) => idstr === name);
    const compression = compressionOf(source);
    if (block === undefined) {
      const names = machine.blocks.map(({ idstr }) => idstr).join(", ");
      throw new UsageError(`this machine has no RAMBlock "${name}"`, { hint: `its RAMBlocks are: ${names}` });
    }
    // Memory may begin with any bytes; that it is also just as long as the block is no accident.
    if (compression !== undefined && source.size !== block.usedLength) {
      const { command, name: unpacked } = unpackingOf(source.name, compression);
      throw new UnsupportedError(`${compression} compressed: --ram takes the memory itself`, {
        where: { file: source.name },
        hint: `${command}, then --ram ${shellWord(`${name}=${unpacked}`)}`,
      });
    }
    if (!isMissing(machine, name)) {
      const message = `all of ${name} is in the core: ${source.name} is not used`;
      warn([{ code: "RAM007", message }]);
    } else if (source.size < block.usedLength) {
      const message = `${source.name} has ${bytesText(source.size)}, but ${name} is ${bytesText(block.usedLength)} long`;
      warn([{ code: "RAM005", message, hint: "is it the file of this backend, and the whole of it?" }]);
    }
  }
}

/** Whether the core lacks any of a block's memory. */
const isMissing = ({ incomplete }: QemuMachine, block: string): boolean => incomplete.has(block);
