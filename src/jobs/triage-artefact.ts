import type { GuestcoreError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource } from "../core/memory.ts";
import { elfKind } from "../dump/elf-kind.ts";
import { identify } from "../dump/identify.ts";
import { readElf } from "../elf/header.ts";
import { readNotes } from "../elf/notes.ts";
import type { FoundFile } from "../io/artefacts.ts";
import { readHead } from "../io/head.ts";
import { unwrapped } from "../triage/console/envelopes.ts";
import type { Detected } from "../triage/finding.ts";
import { isArchive } from "../triage/pstore/archive.ts";
import { isCommandLine } from "../triage/verdict/machine.ts";
import type { SourceKind } from "../triage/verdict/types.ts";
import { isOwnReport, isQmp, namesDomains } from "./log-shapes.ts";
import { hasConsoleLine, isConsoleName, tailOf, tellsOfDeath } from "./triage-sight.ts";
import { headText } from "./utf16.ts";

/** What tells the kind of a file. */
export interface ArtefactHead {
  readonly bytes: Buffer;
  /** The same, one byte a character. */
  readonly text: string;
  /** The same out of what loggers wrap a console in. */
  readonly unwrapped: string;
  /** The last of a file that is longer, from a line's beginning on; of a compressed one nothing. */
  readonly tail: Buffer;
  /** What src/dump/identify.ts calls its contents. */
  readonly format: string | undefined;
  /** Of an ELF core, whose it is. */
  readonly core: "process-core" | "vmcore" | "other" | undefined;
  /** Whether somebody named the very file: what it was taken for is then no accident. */
  readonly named: boolean;
}

/** What a reader gets to read. */
export interface ArtefactInput {
  /** The file, or the directory of a store. */
  readonly path: string;
  /** What the report calls it. */
  readonly source: string;
  /** The file, or all files of the store, sorted by name. */
  readonly files: readonly FoundFile[];
  /** Which of the domains that a log tells of; undefined: whatever it tells. */
  readonly domain?: string | undefined;
  /** QEMU's command line, where the VM has one. */
  readonly commandLine: string | undefined;
}

export type Reader = (input: ArtefactInput, context: JobContext) => Promise<Detected>;

interface Artefact {
  readonly kind: SourceKind;
  /** What it is, for people. */
  readonly label: string;
  /** @param name of the file without directories */
  readonly matches: (name: string, head: ArtefactHead) => boolean;
}

/** Linux fs/pstore/platform.c, fs/pstore/inode.c: TYPE-BACKEND-ID; virtio-pstore and kvmtool: TYPE-ID. */
const STORE_FILE =
  /^(?:dmesg|console|pmsg|ftrace|mce|rtas|powerpc-[a-z]{1,12})-(?:[a-z][a-z0-9_]{1,20}-)?\d{1,20}(?:\.enc\.z)?$/;

/** Whether a name is one that pstore's file system gives: such files are read together. */
export const isStoreFile = (name: string): boolean => STORE_FILE.test(name);

/** Formats of src/dump/identify.ts that are no dump of a machine. */
const NO_DUMP: ReadonlySet<string> = new Set([
  ...["empty", "text", "short", "raw", "data", "minidump", "bzimage", "kernel-arm64"],
  ...["gzip", "zstd", "xz", "bzip2", "lz4", "lzop", "zip", "7z", "tar"],
  ...["qcow2", "vmdk", "vhdx", "vhd", "vdi", "qed", "disk-gpt"],
]);

/** Every kind that is known by sight; of several that match, the first counts. */
export const ARTEFACTS: readonly Artefact[] = [
  { kind: "pstore", label: "pstore files", matches: (name) => isStoreFile(name) },
  { kind: "pstore", label: "systemd-pstore archive", matches: (_, { bytes }) => isArchive(bytes) },
  // UEFI PI Vol. 3: EFI_FIRMWARE_VOLUME_HEADER.Signature.
  { kind: "pstore", label: "UEFI variable store", matches: (_, { text }) => text.startsWith("_FVH", 40) },
  // QEMU hw/acpi/erst.c: ERST_STORE_MAGIC.
  { kind: "pstore", label: "ACPI ERST store", matches: (_, { text }) => text.startsWith("ERSTSTOR") },
  // Linux fs/pstore/ram_core.c: PERSISTENT_RAM_SIG; fs/pstore/zone.c: PSZ_SIG.
  { kind: "pstore", label: "ramoops or pstore_blk region", matches: (_, { text }) => hasZone(text) },
  { kind: "rtas", label: "RTAS error log", matches: (_, { bytes }) => hasRtasLog(bytes) },
  { kind: "qemu-core", label: "core of a process", matches: (_, { core }) => core === "process-core" },
  {
    kind: "dump",
    label: "dump",
    matches: (_, { format, core }) =>
      format === "elf" ? core === "vmcore" : format !== undefined && !NO_DUMP.has(format),
  },
  {
    kind: "cmdline",
    label: "QEMU command line",
    matches: (_, { text }) => isCommandLine(text) && !hasConsoleLines(text),
  },
  { kind: "libvirt-log", label: "libvirt's log of the domain", matches: (_, { text }) => isLibvirtLog(text) },
  { kind: "qmp", label: "QMP log", matches: (_, { text }) => isQmp(text) },
  { kind: "qemu-log", label: "QEMU's own messages", matches: (_, { text }) => isQemuLog(text) },
  {
    kind: "console",
    label: "console log",
    matches: (_, { unwrapped }) => hasConsoleLine(unwrapped),
  },
  {
    kind: "console",
    label: "console log",
    matches: (_, { bytes, text, tail }) => isText(text) && tellsOfDeath(bytes, tail),
  },
  {
    kind: "console",
    label: "console log",
    matches: (name, { text, named }) => isText(text) && (named || isConsoleName(name)),
  },
];

/** A zone's header: signature, start and size, of which start is within. */
function hasZone(text: string): boolean {
  for (let at = 0; at + 12 <= text.length; at += 4096) {
    if (/^[@-O]BGC/.test(text.slice(at, at + 4))) return true;
  }
  return false;
}

/** LoPAR 10.3.2: version 6; the extended log begins 8 bytes further, with "IBM" at its byte 12. */
function hasRtasLog(bytes: Buffer): boolean {
  for (let at = 0; at <= 0x100 && at + 24 <= bytes.length; at += 8) {
    if (
      bytes[at] === 6 &&
      bytes.readUInt32BE(at + 4) > 0 &&
      bytes.toString("latin1", at + 20, at + 24) === "IBM\0"
    ) {
      return true;
    }
  }
  return false;
}

const isLibvirtLog = (text: string): boolean =>
  /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+0000: (?:starting up libvirt version|shutting down, reason=|panic )/m.test(
    text,
  );

/** Whether there are lines of a console, which are no JSON that has some in it. */
const hasConsoleLines = (text: string): boolean => {
  const plain = text.replace(/^ {0,40}[{}"\]].*$/gm, "");
  return hasConsoleLine(plain);
};

/**
 * QEMU says first what it is called, on Proxmox kvm; `-msg timestamp=on,guest-name=on` puts both before that (QEMU
 * util/error-report.c, vreport()).
 */
const isQemuLog = (text: string): boolean =>
  /^(?:\d{4}-\d\d-\d\dT[\d:.]{8,16}Z (?:[^\s:]{1,64} )?)?(?:\S{0,200}\/)?qemu(?:-system-[\w-]{1,20}|-kvm)?: /m.test(
    text,
  ) || /^(?:kvm: -[a-z]|KVM internal error|KVM: entry failed|Guest crashed|HV crash parameters)/m.test(text);

/** Whether it is text at all: hardly any bytes that no terminal is sent. */
function isText(text: string): boolean {
  if (text === "") return false;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are counted
  const odd = text.match(/[\x00-\x06\x0e-\x1a\x1c-\x1f]/g)?.length ?? 0;
  return odd * 20 < text.length;
}

/** What a file was recognised as. */
export interface Recognised {
  readonly kind: SourceKind;
  readonly label: string;
  /** What else it is: a console that QEMU's messages, or its monitor's, go to as well. */
  readonly also?: Recognised;
  /** Whether it may tell of several domains of libvirt. */
  readonly hasDomains?: boolean;
  /** Which of them it is taken for. */
  readonly domain?: string;
  /** Whether guestcore wrote it: a report of an earlier run. */
  readonly isOwn?: boolean;
  /** Why it could not be looked at. */
  readonly failure?: GuestcoreError;
}

/** A file that could not be looked at is what its name says, so that it counts among the sources of its VM. */
export function unreadable({ path }: FoundFile, failure: GuestcoreError): Recognised {
  const name = path.slice(path.lastIndexOf("/") + 1);
  const kind = isConsoleName(name) ? "console" : "unknown";
  // Records of a store are read together: those that can be read count.
  return isStoreFile(name)
    ? { kind: "pstore", label: "pstore files" }
    : { kind, label: "unreadable", failure };
}

/**
 * Says what a file is: by what is in it, then by its name. What is not known is not guessed.
 * @throws IoError when it cannot be read
 */
export async function recognise(file: Omit<FoundFile, "identity">): Promise<Recognised> {
  const name = file.path.slice(file.path.lastIndexOf("/") + 1);
  let format: string | undefined;
  let phrase: string | undefined;
  let core: ArtefactHead["core"];
  let tail: Buffer = Buffer.alloc(0);
  const look = (source: ByteSource): void => {
    ({ format, phrase } = identify(source));
    if (format === "elf") core = coreOf(source);
  };
  const { bytes, compression } = await readHead(file.path, (source) => {
    look(source);
    tail = tailOf(source);
  });
  if (compression !== undefined) {
    look({
      name: name.replace(/\.\w+$/, ""),
      size: bytes.length,
      read: (at, target) => bytes.copy(target, 0, at),
    });
  }
  const named = file.within.length === 0;
  const text = headText(bytes);
  const head: ArtefactHead = { bytes, text, unwrapped: unwrapped(text), tail, format, core, named };
  if (isOwnReport(head.text)) {
    return { kind: "unknown", label: "a report that guestcore wrote", isOwn: true };
  }
  const found = ARTEFACTS.find(({ matches }) => matches(name, head));
  if (found === undefined) return { kind: "unknown", label: phrase ?? "data" };
  const { kind, label } = found;
  if (kind === "dump") return { kind, label: phrase ?? label };
  return {
    kind,
    label,
    ...(SHARED.has(kind) && hasConsoleLines(head.unwrapped) ? { also: CONSOLE } : {}),
    ...(kind === "qmp" && namesDomains(text) ? { hasDomains: true } : {}),
  };
}

/** Kinds of log that one file may have together with a console. */
const SHARED: ReadonlySet<SourceKind> = new Set(["qmp", "qemu-log", "libvirt-log"]);
const CONSOLE: Recognised = { kind: "console", label: "console log" };

/** Whose core an ELF file is; a damaged one is a dump, and whoever reads it says what is wrong. */
function coreOf(source: ByteSource): ArtefactHead["core"] {
  try {
    const elf = readElf(source);
    return elfKind(elf, readNotes(source, elf).notes);
  } catch {
    return "vmcore";
  }
}
