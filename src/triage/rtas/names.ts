/**
 * Words for the codes of RTAS error logs: LoPAR (PAPR) chapter "Event Reporting", Linux arch/powerpc/include/asm/rtas.h,
 * arch/powerpc/kernel/rtasd.c, arch/powerpc/platforms/pseries/ras.c; librtas librtasevent_v6.h, skiboot include/pel.h.
 */

type Names = Readonly<Record<number, string>>;

/** Bits 23:21 of the first word. */
export const SEVERITY_NAMES = [
  "no error",
  "event",
  "warning",
  "synchronous error",
  "error",
  "fatal",
  "already reported",
  "reserved",
] as const;

/** Bits 20:19. */
export const DISPOSITION_NAMES = [
  "fully recovered",
  "limited recovery",
  "not recovered",
  "reserved",
] as const;

/** Bits 15:12; bits 11:8, the target, have the same. */
export const INITIATORS: Names = {
  0: "unknown",
  1: "CPU",
  2: "PCI",
  3: "ISA",
  4: "memory",
  5: "power management",
  6: "hotplug",
};

/** Bits 7:0. */
export const TYPES: Names = {
  0: "other",
  1: "retry",
  2: "TCE error",
  3: "internal device failure",
  4: "timeout",
  5: "data parity",
  6: "address parity",
  7: "cache parity",
  8: "address invalid",
  9: "ECC uncorrected",
  10: "ECC corrected",
  64: "EPOW",
  96: "power switch on",
  97: "power switch off",
  98: "lid open",
  99: "lid close",
  100: "sleep button",
  101: "wake button",
  102: "battery warning",
  103: "battery critical",
  104: "switch to battery",
  105: "switch to AC",
  106: "keyboard or mouse",
  107: "enclosure open",
  108: "enclosure closed",
  109: "ring indicate",
  110: "LAN attention",
  111: "time alarm",
  112: "configuration change",
  113: "service processor",
  160: "platform resource reassignment",
  224: "platform error",
  225: "I/O event",
  226: "platform information",
  227: "resource deallocation",
  228: "dump notification",
  229: "hotplug",
  230: "hypervisor pipe notification",
};

/** Byte 0 of the extended log, from its highest bit. */
export const EXTENDED_FLAGS: readonly (readonly [mask: number, name: string])[] = [
  [0x80, "valid"],
  [0x40, "unrecoverable"],
  [0x20, "recoverable"],
  [0x10, "degraded operation"],
  [0x08, "predictive"],
  [0x04, "new"],
  [0x02, "big-endian"],
];

/** Sections by the two characters of their ids. */
export const SECTIONS: Readonly<Record<string, string>> = {
  PH: "private header (Main-A)",
  UH: "user header (Main-B)",
  PS: "primary SRC",
  SS: "secondary SRC",
  EH: "extended user header",
  MT: "failing machine type, model and serial number",
  DH: "dump locator",
  SW: "firmware error",
  LP: "impacted partition",
  LR: "logical resource",
  HM: "HMC id",
  EP: "EPOW",
  IE: "I/O event",
  MI: "manufacturing information",
  CH: "call home",
  UD: "user defined data",
  ED: "extended user defined data",
  HP: "hotplug",
  MC: "machine check",
};

/** Who made the log: the private header's creator. */
export const CREATORS: Readonly<Record<string, string>> = {
  C: "HMC",
  E: "service processor",
  H: "hypervisor",
  L: "partition firmware",
  W: "power control",
  S: "SLIC",
  B: "hostboot",
  T: "OCC",
  M: "I/O drawer",
  K: "OPAL",
  P: "POWERNV",
};

/** The user header's subsystem, by its upper nibble; 0x7x holds several. */
export const SUBSYSTEMS: Names = {
  1: "processor",
  2: "memory",
  3: "I/O",
  4: "I/O device",
  5: "CEC hardware",
  6: "power or cooling",
  7: "other",
  8: "platform firmware",
  9: "software",
  10: "external environment",
};

/** The user header's severity, by its upper nibble. */
export const EVENT_SEVERITIES: Names = {
  0: "informational",
  1: "recovered",
  2: "predictive",
  4: "unrecovered",
  5: "critical",
  6: "diagnostic test",
  7: "recovered symptom",
};

/** The user header's event type. */
export const EVENT_TYPES: Names = {
  0: "not applicable",
  1: "information only",
  8: "dump notification",
  16: "previously reported",
  32: "deconfigured by user",
  33: "deconfigured by the system",
  34: "deconfiguration notice",
  48: "return to normal",
  64: "concurrent maintenance",
  96: "capacity upgrade",
  112: "resource sparing",
  128: "dynamic reconfiguration",
  208: "normal shutdown",
  224: "abnormal shutdown",
};

/** The user header's action flags. */
export const EVENT_ACTIONS: readonly (readonly [mask: number, name: string])[] = [
  [0x8000, "service action"],
  [0x4000, "hidden"],
  [0x2000, "report externally"],
  [0x1000, "HMC only"],
  [0x0800, "call home"],
  [0x0400, "isolation incomplete"],
];

/** error_type of the MC section. */
export const MC_TYPES: Names = {
  0: "UE",
  1: "SLB",
  2: "ERAT",
  3: "unknown",
  4: "TLB",
  5: "D-cache",
  7: "I-cache",
  8: "control memory access",
};

/** sub_err_type of the MC section, its bits that say where: UE has three, the others two. */
export const MC_SUBTYPES: Readonly<Record<number, readonly string[]>> = {
  0: [
    "indeterminate",
    "instruction fetch",
    "page table walk for instruction fetch",
    "load/store",
    "page table walk for load/store",
  ],
  1: ["parity", "multihit", "indeterminate"],
  2: ["", "parity", "multihit", "indeterminate"],
  4: ["", "parity", "multihit", "indeterminate"],
  8: ["page table access", "operand access"],
};

/** EPOW action codes (ras.c: rtas_parse_epow_errlog). */
export const EPOW_ACTIONS: Names = {
  0: "reset: the condition is gone",
  1: "cooling warning",
  2: "power warning",
  3: "system shutdown",
  4: "system halt",
  5: "main enclosure loses power",
  7: "power off",
};

/** EPOW event modifiers of a system shutdown (ras.c: handle_system_shutdown). */
export const EPOW_MODIFIERS: Names = {
  0: "not applicable",
  1: "normal shutdown",
  2: "utility power lost, on UPS or battery",
  3: "loss of critical functions",
  4: "ambient temperature too high",
};

/** rtas.h: PSERIES_HP_ELOG_RESOURCE_*, _ACTION_*. */
export const HOTPLUG_RESOURCES: Names = {
  1: "CPU",
  2: "memory",
  3: "slot",
  4: "PHB",
  5: "PCI",
  6: "persistent memory",
};
export const HOTPLUG_ACTIONS: Names = { 1: "add", 2: "remove", 4: "read again" };
export const HOTPLUG_IDENTIFIERS: Names = {
  1: "DRC name",
  2: "DRC index",
  3: "DRC count",
  4: "DRC count and index",
};

/** Subtype of the dump locator's section header. */
export const DUMPS: Names = {
  1: "service processor dump",
  2: "platform dump",
  3: "SMA dump",
  4: "power subsystem dump",
  5: "platform event log dump",
  6: "partition-initiated resource dump",
  7: "platform-initiated resource dump",
};

/** arch/powerpc/include/asm/io_event_irq.h. */
export const IO_TYPES: Names = {
  1: "error detected",
  2: "error recovered",
  3: "event",
  4: "RPC passed through",
};
export const IO_SCOPES: Names = {
  0: "not applicable",
  54: "RIO hub",
  55: "RIO bridge",
  56: "PHB",
  57: "EADS global",
  58: "EADS slot",
  59: "Torrent hub",
  81: "service processor",
};

/** Resource of the LR section. */
export const LOGICAL_RESOURCES: Names = {
  16: "processor",
  17: "shared processor",
  64: "memory page",
  65: "memory LMB",
};

/** A code in words, with its number where there is no word. */
export const named = (names: Names, code: number): string =>
  names[code] ?? `unknown (0x${code.toString(16).padStart(2, "0")})`;

/** Names of the bits that are set. */
export const flagNames = (
  flags: readonly (readonly [mask: number, name: string])[],
  value: number,
): string[] => flags.filter(([mask]) => (value & mask) !== 0).map(([, name]) => name);
