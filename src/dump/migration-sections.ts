import { CorruptError, UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource } from "../core/memory.ts";
import { type Configuration, readConfiguration } from "./migration-configuration.ts";
import { type DeviceDescription, deviceKey, endsWithMark, readDescription } from "./migration-description.ts";
import type { FieldTable } from "./migration-fields.ts";
import { MAX_OFFSET } from "./migration-pages.ts";
import { type RamContents, RamSections } from "./migration-ram.ts";
import { StreamReader } from "./migration-reader.ts";
import { findFooter, isSectionStart } from "./migration-resync.ts";

/** A device whose fields are known. */
export interface SavedDevice {
  /** "cpu", "mch". */
  readonly kind: string;
  readonly instance: number;
  /** Of its state in the source. */
  readonly offset: number;
  readonly fields: FieldTable;
}

/** What a stream holds, up to where it could be followed. */
export interface MigrationStream {
  /** From the configuration section: "pc-q35-7.2"; "" where there is none. */
  readonly machine: string;
  readonly ram: RamContents;
  /** Whether all of the memory came. */
  readonly ramWhole: boolean;
  /** The guest moved before its memory did; the rest was fetched by other means. */
  readonly postcopy: boolean;
  readonly devices: readonly SavedDevice[];
  /** Whether the stream describes the states of its devices. */
  readonly described: boolean;
  /** Whether it ends as one without a description does; otherwise it had one, or had more to come. */
  readonly marked: boolean;
  /** Why it could not be followed to its end, where it could not. */
  readonly problem: CorruptError | undefined;
}

/** Devices that are looked into, by their vmsd_name. */
const WANTED: ReadonlySet<string> = new Set(["cpu", "cpu_common", "mc146818rtc", "I440FX", "mch"]);

const MAGIC = 0x5145_564d;
const VERSION = 3;

/** QEMU_VM_* of QEMU `migration/savevm.h`. */
const EOF = 0x00;
const START = 0x01;
const PART = 0x02;
const END = 0x03;
const FULL = 0x04;
const CONFIGURATION = 0x07;
const COMMAND = 0x08;
const FOOTER = 0x7e;
const FOOTER_SIZE = 5;

/** MIG_CMD_*. */
const POSTCOPY_ADVISE = 3;
const POSTCOPY_LISTEN = 4;
const POSTCOPY_RUN = 5;
const PACKAGED = 7;

const RAM_VERSION = 4;
/** Sections that start, with room to spare. */
const MAX_SECTIONS = 65_536;

interface Section {
  readonly id: number;
  readonly name: string;
  readonly instance: number;
}

/**
 * Follows a stream from its magic on, once. Memory comes first and in a form of its own; the states of devices have no
 * lengths, which is what the description behind the stream is for.
 * @param start offset of the stream in the source
 * @throws CorruptError, UnsupportedError when there is no memory in it that can be used
 */
export async function readMigrationStream(
  source: ByteSource,
  start: number,
  checkpoint: JobContext["checkpoint"] | undefined,
): Promise<MigrationStream> {
  if (source.size > MAX_OFFSET) throw new UnsupportedError("a migration stream of more than 64 TiB");
  const walk = new Walk(source, start, await readDescription(source, WANTED, checkpoint), checkpoint);
  let problem: CorruptError | undefined;
  try {
    await walk.run();
  } catch (error) {
    if (!(error instanceof CorruptError) || !walk.hasMemory) throw error;
    problem = error;
  }
  return walk.result(problem);
}

class Walk {
  readonly #source: ByteSource;
  readonly #reader: StreamReader;
  readonly #descriptions: ReadonlyMap<string, DeviceDescription> | undefined;
  readonly #checkpoint: JobContext["checkpoint"] | undefined;
  readonly #sections = new Map<number, Section>();
  readonly #devices: SavedDevice[] = [];
  readonly #flavour = { mappedRam: false, ignoreShared: false, postcopy: false };
  readonly #ram: RamSections;
  #machine = "";
  #ramWhole = false;
  /** Whether states of devices came behind the last of memory: QEMU sends them when there is no more of it. */
  #statesFollow = false;
  #postcopy = false;
  #started = false;
  #count = 0;
  /** Whether sections have footers: as the first one that ends. */
  #footers: boolean | undefined;

  constructor(
    source: ByteSource,
    start: number,
    descriptions: ReadonlyMap<string, DeviceDescription> | undefined,
    checkpoint: JobContext["checkpoint"] | undefined,
  ) {
    this.#source = source;
    this.#reader = new StreamReader(source, start);
    this.#checkpoint = checkpoint;
    this.#descriptions = descriptions;
    this.#ram = new RamSections(this.#flavour, checkpoint);
  }

  get hasMemory(): boolean {
    return this.#started;
  }

  async run(): Promise<void> {
    const reader = this.#reader;
    const at = reader.position;
    if (reader.u32() !== MAGIC)
      throw new CorruptError("no migration stream starts here", { where: { offset: at } });
    const version = reader.u32();
    if (version !== VERSION) {
      throw new UnsupportedError(`a migration stream of version ${version}: QEMU has written 3 since 2009`);
    }
    while (await this.#next(reader.u8())) await this.#checkpoint?.();
  }

  result(problem: CorruptError | undefined): MigrationStream {
    const [machine, ramWhole, postcopy] = [this.#machine, this.#ramWhole, this.#postcopy];
    const ram = this.#ram.contents(this.#source, ramWhole);
    const described = this.#descriptions !== undefined;
    const marked = !described && endsWithMark(this.#source, this.#footers === true);
    return { machine, ram, ramWhole, postcopy, devices: this.#devices, described, marked, problem };
  }

  /** @returns whether more may follow that matters */
  async #next(type: number): Promise<boolean> {
    switch (type) {
      case CONFIGURATION:
        this.#configure(readConfiguration(this.#reader));
        return true;
      case START:
      case FULL:
        this.#statesFollow = type === FULL;
        return await this.#readSection(this.#readHeader(), type === FULL);
      case PART:
      case END:
        return await this.#readSection(this.#knownSection(), type === END);
      case COMMAND:
        return this.#readCommand();
      case EOF:
        // A background snapshot has no section that ends its memory.
        this.#ramWhole ||= this.#statesFollow;
        return false;
      default:
        throw this.#corrupt(`section of the unknown type ${type}`, 1);
    }
  }

  #configure({ machine, capabilities }: Configuration): void {
    this.#machine = machine;
    this.#flavour.mappedRam = capabilities.includes("mapped-ram");
    this.#flavour.ignoreShared = capabilities.includes("x-ignore-shared");
  }

  #readHeader(): Section {
    const reader = this.#reader;
    const section = { id: reader.u32(), name: reader.text(), instance: reader.u32() };
    const version = reader.u32();
    if (section.name === "ram" && version !== RAM_VERSION) {
      throw new UnsupportedError(`a memory section of version ${version}: QEMU has written 4 since 2009`);
    }
    if (++this.#count > MAX_SECTIONS) throw this.#corrupt("section too many", 0);
    this.#sections.set(section.id, section);
    return section;
  }

  #knownSection(): Section {
    const section = this.#sections.get(this.#reader.u32());
    if (section === undefined) throw this.#corrupt("part of a section that did not start", 4);
    return section;
  }

  async #readSection(section: Section, isLast: boolean): Promise<boolean> {
    if (section.name !== "ram") return await this.#skipDevice(section);
    this.#started = true;
    this.#statesFollow = false;
    await this.#ram.read(this.#reader);
    if (isLast) this.#ramWhole = true;
    this.#readFooter(section.id);
    // What is left are devices; without the description nothing can be told of them.
    return !isLast || this.#descriptions !== undefined;
  }

  /** By its description; what has none, or another length than that, ends with its footer. */
  async #skipDevice({ id, name, instance }: Section): Promise<boolean> {
    const reader = this.#reader;
    const offset = reader.position;
    const description = this.#descriptions?.get(deviceKey(name, instance));
    if (description !== undefined && offset + description.length <= reader.size) {
      reader.position = offset + description.length;
      if (this.#passFooter(id)) {
        if (description.fields !== undefined) {
          const { kind, fields } = description;
          this.#devices.push({ kind, instance, offset, fields });
        }
        return true;
      }
      reader.position = offset;
    }
    if (await findFooter(reader, id, this.#checkpoint)) return true;
    throw this.#corrupt(`state of the device ${JSON.stringify(name)} without an end`, 0);
  }

  #readFooter(id: number): void {
    if (!this.#passFooter(id)) throw this.#corrupt("section of memory without its footer", 0);
  }

  /** Sections of machine types before 2.4 have none: then another section starts. */
  #passFooter(id: number): boolean {
    const bytes = this.#reader.lookAhead(FOOTER_SIZE);
    this.#footers ??= bytes[0] === FOOTER || !isSectionStart(this.#reader);
    if (!this.#footers) return isSectionStart(this.#reader);
    const isOurs = bytes[0] === FOOTER && bytes.length === FOOTER_SIZE && bytes.readUInt32BE(1) === id;
    // A rest that is too short is the end of the stream.
    if (isOurs || bytes.length < FOOTER_SIZE) this.#reader.skip(FOOTER_SIZE);
    return isOurs;
  }

  #readCommand(): boolean {
    const reader = this.#reader;
    const command = reader.u16();
    reader.skip(reader.u16());
    if (command === POSTCOPY_ADVISE) this.#flavour.postcopy = true;
    if (command !== POSTCOPY_LISTEN && command !== POSTCOPY_RUN && command !== PACKAGED) return true;
    this.#postcopy = true;
    return false;
  }

  #corrupt(what: string, behind: number): CorruptError {
    return new CorruptError(`the stream has a ${what}`, {
      where: { offset: this.#reader.position - behind },
    });
  }
}
