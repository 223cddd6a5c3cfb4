import { CorruptError } from "../core/errors.ts";
import type { StreamReader } from "./migration-reader.ts";

/** What the configuration section says, which comes first. */
export interface Configuration {
  /** Machine type: "pc-q35-7.2". */
  readonly machine: string;
  /** Those of the migration that both sides must agree on. */
  readonly capabilities: readonly string[];
}

/** QEMU_VM_SUBSECTION. */
const SUBSECTION = 0x05;
/** With room to spare. */
const MAX_MACHINE_NAME = 256;
const MAX_CAPABILITIES = 256;
const UUID_SIZE = 16;

/**
 * Reads vmstate_configuration (QEMU `migration/savevm.c`) behind the section's type: the machine type, then subsections
 * of a name, a version and contents.
 * @throws StreamEnd, CorruptError
 */
export function readConfiguration(reader: StreamReader): Configuration {
  const at = reader.position;
  const length = reader.u32();
  if (length > MAX_MACHINE_NAME) throw impossible(at);
  const machine = reader.bytes(length).toString("latin1");
  const capabilities: string[] = [];
  while (reader.peek() === SUBSECTION) {
    const start = reader.position;
    reader.skip(1);
    const name = reader.text();
    // Its version.
    reader.skip(4);
    if (name === "configuration/capabilities") capabilities.push(...readCapabilities(reader, start));
    else if (name === "configuration/target-page-bits") reader.skip(4);
    else if (name === "configuration/uuid") reader.skip(UUID_SIZE);
    else throw impossible(start);
  }
  return { machine, capabilities };
}

function readCapabilities(reader: StreamReader, at: number): string[] {
  const count = reader.u32();
  if (count > MAX_CAPABILITIES) throw impossible(at);
  return Array.from({ length: count }, () => reader.text());
}

const impossible = (offset: number): CorruptError =>
  new CorruptError("the stream's configuration is not what QEMU writes", { where: { offset } });
