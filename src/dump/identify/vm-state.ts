import { Parser } from "binary-parser";
import { plural, printable } from "../../core/text.ts";
import { machineKind } from "../migration-machine.ts";
import { type Description, type Format, field, type Head, known, magic, readAt } from "./format.ts";

const CONFIGURATION_SECTION = 7;
const MAX_MACHINE_NAME = 256;

/** The stream's version and, where it starts with a configuration section, the machine type; all big endian. */
function migrationHeader(bytes: Buffer): { readonly version?: number; readonly machine?: string } {
  if (bytes.length < 8) return {};
  const version = bytes.readUInt32BE(4);
  if (bytes.length < 13 || bytes[8] !== CONFIGURATION_SECTION) return { version };
  const length = bytes.readUInt32BE(9);
  if (length > MAX_MACHINE_NAME || bytes.length < 13 + length) return { version };
  return { version, machine: bytes.toString("latin1", 13, 13 + length) };
}

function describeMigration(head: Head): Description {
  const { version, machine } = migrationHeader(head.bytes);
  const parts = ["QEMU suspend to disk image (migration stream)"];
  if (version !== undefined) parts.push(`v${version}`);
  if (machine !== undefined) parts.push(`machine ${printable(machine)}`);
  const isPc = machine === undefined || machineKind(machine) !== undefined;
  const type = machine !== undefined && /^[\w.-]+$/.test(machine) ? machine : "TYPE";
  return {
    phrase: parts.join(", "),
    facts: known({ version, machine }),
    readable: isPc,
    advice: isPc
      ? `guestcore convert ${head.file} vmcore`
      : `qemu-system-… -machine ${type} … -S -incoming "exec:cat ${head.file}"    # with the guest's own options; then QMP dump-guest-memory`,
  };
}

/** Header of libvirt's qemu_saveimage.h behind the magic; native byte order of the host that saved. */
const saveHeader = (order: "little" | "big") =>
  new Parser()
    .endianness(order)
    .seek(16)
    .uint32("version")
    .uint32("xmlLength")
    .uint32("wasRunning")
    .uint32("compressed")
    .uint32("cookieOffset");
const saveHeaders = { little: saveHeader("little"), big: saveHeader("big") };
const SAVE_HEADER_SIZE = 92;
const MAX_XML = 64 * 1024;
/** virQEMUSaveFormat; sparse is mapped-ram. */
const SAVE_FORMATS = ["none", "gzip", "bzip2", "xz", "lzop", "zstd", "sparse"];
/** What is not unpacked on the way. */
const FOREIGN = ["bzip2", "xz", "lzop"];

interface SaveHeader {
  readonly version: number;
  readonly xmlLength: number;
  readonly wasRunning: number;
  readonly compressed: number;
}

function describeSave(head: Head, complete: boolean): Description {
  const phrase = `Libvirt QEMU ${complete ? "suspend image" : "partial suspend image"}`;
  if (head.bytes.length < SAVE_HEADER_SIZE) {
    return { phrase: `${phrase}, cut`, advice: "it ends inside its header: copy it again" };
  }
  // Versions are small: read in the wrong order they are not.
  const order = head.bytes.readUInt32LE(16) > 0xffff ? "big" : "little";
  const { version, xmlLength, wasRunning, compressed } = saveHeaders[order].parse(head.bytes) as SaveHeader;
  const xml = readAt(head, SAVE_HEADER_SIZE, Math.min(xmlLength, MAX_XML)).toString("utf8");
  const domain = /<name>([^<]{1,256})<\/name>/.exec(xml)?.[1];
  const format = SAVE_FORMATS[compressed] ?? `unknown (${compressed})`;
  const machine = /<type[^>]{0,256}\smachine=['"]([^'"]{1,128})['"]/.exec(xml)?.[1];
  return {
    phrase: [
      phrase,
      `version ${version}`,
      ...(domain === undefined ? [] : [`domain ${printable(domain)}`]),
    ].join(", "),
    facts: known({
      version,
      domain,
      machine,
      running: wasRunning !== 0,
      compression: format,
    }),
    readable: true,
    advice: FOREIGN.includes(format)
      ? `tail -c +${SAVE_HEADER_SIZE + xmlLength + 1} ${head.file} | ${format} -dc > ${head.file}.state && guestcore convert ${head.file}.state vmcore`
      : `guestcore convert ${head.file} vmcore${complete ? "" : "    # of what was saved: it was not finished"}`,
  };
}

const VMWARE_GROUP_SIZE = 80;
const MAX_VMWARE_GROUPS = 64;

/** {u32 id, u32 version, u32 group count}, then per group name[64], u64 position, u64 size. */
function describeVmware(head: Head): Description {
  const { bytes } = head;
  const count = bytes.length < 12 ? 0 : bytes.readUInt32LE(8);
  const groups: string[] = [];
  for (let i = 0; i < Math.min(count, MAX_VMWARE_GROUPS); i++) {
    const at = 12 + i * VMWARE_GROUP_SIZE;
    if (at + VMWARE_GROUP_SIZE > bytes.length) break;
    groups.push(field(bytes, at, 64));
  }
  const hasMemory = groups.includes("memory");
  const isOld = VMWARE_OLD_IDS.includes(bytes.readUInt32LE(0));
  return {
    phrase: `VMware suspended state or snapshot (vmss, vmsn), ${isOld ? "32-bit, " : ""}${plural(count, "group")}`,
    facts: known({ groups: groups.join(" "), memoryGroup: hasMemory }),
    readable: !isOld,
    advice: isOld
      ? "resume the machine in a newer VMware product and suspend it again: this kind of state file is not read"
      : `guestcore convert ${head.file} vmcore    # with the .vmem file of the same name beside it, if there is one`,
  };
}

/** Written whole, in part, restored, not to be restored; and before sizes had 64 bits (crash vmware_vmss.h). */
const VMWARE_IDS = [0xbed2bed2, 0xbed3bed3, 0xbad1bad1, 0xbed1bed1, 0xbad2bad2];
const VMWARE_OLD_IDS = [0xbed0bed0, 0xbad0bad0];

/** Saved virtual machines: facts of dump formats §5, §6 and §7. */
export const VM_STATE_FORMATS: readonly Format[] = [
  { name: "qemu-migration", matches: magic("QEVM"), describe: describeMigration },
  {
    name: "libvirt-save",
    matches: magic("LibvirtQemudSave"),
    describe: (head) => describeSave(head, true),
  },
  {
    name: "libvirt-save-partial",
    matches: magic("LibvirtQemudPart"),
    describe: (head) => describeSave(head, false),
  },
  {
    name: "vmware-state",
    matches: ({ bytes }) =>
      bytes.length >= 4 && [...VMWARE_IDS, ...VMWARE_OLD_IDS].includes(bytes.readUInt32LE(0)),
    describe: describeVmware,
  },
  {
    name: "xen-save",
    matches: magic("LinuxGuestRecord"),
    describe: (head) => ({
      phrase: "Xen saved domain (xc_save)",
      advice: `xm restore ${head.file}    # of Xen before 4.5; then xm dump-core`,
    }),
  },
  {
    name: "xen-save-xl",
    matches: magic("Xen saved domain"),
    describe: (head) => ({
      phrase: "Xen saved domain, xl format",
      advice: `xl restore -p ${head.file}    # then: xl dump-core DOMAIN OUT`,
    }),
  },
];
