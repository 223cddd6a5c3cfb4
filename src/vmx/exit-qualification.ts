import { hex } from "../core/text.ts";
import { basicReason, isEntryFailure } from "./exit-reasons.ts";
import { type BitMeaning, bitsOf, namesOfSet, slice } from "./meaning.ts";

/** What an exit qualification says. */
export interface Qualification {
  readonly text: string;
  readonly bits: readonly BitMeaning[] | undefined;
}

type Names = readonly (readonly [bit: number, name: string])[];

const REGISTERS = [
  "RAX",
  "RCX",
  "RDX",
  "RBX",
  "RSP",
  "RBP",
  "RSI",
  "RDI",
  "R8",
  "R9",
  "R10",
  "R11",
  "R12",
  "R13",
  "R14",
  "R15",
] as const;

/** Debug exceptions; pending ones (SDM Vol. 3C Table 25-4) have the same bits and bit 12. */
const DEBUG: Names = [
  [0, "B0"],
  [1, "B1"],
  [2, "B2"],
  [3, "B3"],
  [11, "bus lock"],
  [13, "BD"],
  [14, "BS"],
  [16, "RTM"],
];
export const PENDING_DEBUG: Names = [
  [0, "B0"],
  [1, "B1"],
  [2, "B2"],
  [3, "B3"],
  [11, "bus lock"],
  [12, "enabled breakpoint"],
  [14, "BS"],
  [16, "RTM"],
];

const EPT_VIOLATION: Names = [
  [0, "data read"],
  [1, "data write"],
  [2, "instruction fetch"],
  [3, "page readable"],
  [4, "page writable"],
  [5, "page executable"],
  [6, "page executable for user mode"],
  [7, "guest-linear address valid"],
  [8, "access to the translated address"],
  [9, "user-mode linear address"],
  [10, "read/write by guest paging"],
  [11, "execute-disable by guest paging"],
  [12, "NMI unblocking due to IRET"],
  [13, "shadow-stack access"],
  [14, "supervisor shadow-stack page"],
  [15, "guest-paging verification"],
  [16, "asynchronous to instruction execution"],
];

const APIC_ACCESS = new Map([
  [0, "linear read"],
  [1, "linear write"],
  [2, "linear instruction fetch"],
  [3, "linear access during event delivery"],
  [4, "linear access asynchronous to instruction execution"],
  [10, "guest-physical access during event delivery"],
  [11, "guest-physical access asynchronous to instruction execution"],
  [15, "guest-physical access for a fetch or during execution"],
]);

const TASK_SWITCH_SOURCES = ["CALL", "IRET", "JMP", "task gate in the IDT"] as const;
const ENTRY_FAILURES: ReadonlyMap<number, string> = new Map([
  [2, "loading the PDPTEs"],
  [3, "injecting an NMI while events are blocked by STI"],
  [4, "the VMCS link pointer"],
]);

const plain = (text: string): Qualification => ({ text, bits: undefined });
const named = (value: bigint, names: Names): Qualification => ({
  text: namesOfSet(value, names).join(", "),
  bits: bitsOf(value, names),
});

function controlRegister(value: bigint): Qualification {
  const number = slice(value, 3, 0);
  const register = REGISTERS[slice(value, 11, 8)]!;
  const access = slice(value, 5, 4);
  if (access === 0) return plain(`MOV CR${number}, ${register}`);
  if (access === 1) return plain(`MOV ${register}, CR${number}`);
  if (access === 2) return plain("CLTS");
  const operand = slice(value, 6, 6) === 1 ? "memory" : "register";
  return plain(`LMSW ${hex(slice(value, 31, 16), 4)} from ${operand}`);
}

function debugRegister(value: bigint): Qualification {
  const register = REGISTERS[slice(value, 11, 8)]!;
  const number = slice(value, 2, 0);
  return plain(slice(value, 4, 4) === 1 ? `MOV ${register}, DR${number}` : `MOV DR${number}, ${register}`);
}

function portAccess(value: bigint): Qualification {
  const string = slice(value, 4, 4) === 1;
  const input = slice(value, 3, 3) === 1;
  const name = string ? (input ? "INS" : "OUTS") : input ? "IN" : "OUT";
  const size = slice(value, 2, 0) + 1;
  const operand = slice(value, 6, 6) === 1 ? "immediate" : "DX";
  const repeated = slice(value, 5, 5) === 1 ? "REP " : "";
  return plain(`${repeated}${name} port ${hex(slice(value, 31, 16), 4)}, ${size} bytes, ${operand}`);
}

function apicAccess(value: bigint): Qualification {
  const type = slice(value, 15, 12);
  const offset = type < 10 ? ` at offset ${hex(slice(value, 11, 0), 3)}` : "";
  return plain(`${APIC_ACCESS.get(type) ?? `access of unknown type ${type}`}${offset}`);
}

/** Bits 4 and 3 (3 and 2) tell, where no bit of 2:0 does: an access by the walker of guest page tables. */
function eptViolation(value: bigint): Qualification {
  const { bits } = named(value, EPT_VIOLATION);
  const accesses = namesOfSet(value & 7n, EPT_VIOLATION).join(" and ") || "access";
  const allowed = namesOfSet(value & 0x38n, EPT_VIOLATION)
    .map((name) => name.replace("page ", ""))
    .join(", ");
  const parts = [accesses, allowed === "" ? "page not present" : `page ${allowed}`];
  if (slice(value, 8, 7) === 1) parts.push("by a guest page walk");
  return { text: [...parts, ...namesOfSet(value & 0x1_f000n, EPT_VIOLATION)].join(", "), bits };
}

const taskSwitch = (value: bigint): Qualification =>
  plain(`${TASK_SWITCH_SOURCES[slice(value, 31, 30)]!}, to TSS ${hex(slice(value, 15, 0), 4)}`);
const linear = (value: bigint): Qualification => plain(`linear address ${hex(value, 16)}`);
const displacement = (value: bigint): Qualification => plain(`displacement ${hex(value)}`);
const iretOnly = (value: bigint): Qualification =>
  named(value & 0x1_1000n, [
    [12, "NMI unblocking due to IRET"],
    [16, "asynchronous to instruction execution"],
  ]);

/** Basic exit reason → how its qualification reads (SDM Vol. 3C §28.2.1 and Tables 28-1 to 28-7). */
const BY_REASON: ReadonlyMap<number, (value: bigint) => Qualification> = new Map([
  [4, (value) => plain(`SIPI vector ${hex(slice(value, 7, 0), 2)}`)],
  [9, taskSwitch],
  [14, linear],
  ...[19, 21, 22, 23, 25, 27, 46, 47, 50, 53, 58, 63, 64].map((reason) => [reason, displacement] as const),
  [28, controlRegister],
  [29, debugRegister],
  [30, portAccess],
  [32, (value) => plain(value === 1n ? "WRMSRNS" : "WRMSR")],
  [36, (value) => plain(value === 0n ? "monitor not armed" : "monitor armed")],
  [44, apicAccess],
  [45, (value) => plain(`EOI of vector ${hex(slice(value, 7, 0), 2)}`)],
  [48, eptViolation],
  [54, (value) => plain(value === 1n ? "WBNOINVD" : "WBINVD")],
  [56, (value) => plain(`write at offset ${hex(slice(value, 11, 0), 3)} of the APIC page`)],
  [62, iretOnly],
  [66, (value) => plain(slice(value, 11, 11) === 1 ? "SPP miss" : "SPP misconfiguration")],
  [
    75,
    (value) => plain(slice(value, 0, 0) === 1 ? "context of the virtual machine invalid" : "context valid"),
  ],
]);

const EXCEPTION_NMI = 0;
const INVALID_STATE = 33;
const MSR_LOAD_FAIL = 34;
const DEBUG_EXCEPTION = 1;
const PAGE_FAULT = 14;

/**
 * What the exit qualification says, which its format owes to the exit reason.
 * @param event exiting-event identification, where known
 */
export function describeQualification(
  value: bigint,
  exitReason: bigint,
  event: bigint | undefined,
): Qualification {
  const basic = basicReason(exitReason);
  if (isEntryFailure(exitReason)) return entryFailure(value, basic);
  if (basic === EXCEPTION_NMI) return exception(value, event);
  return BY_REASON.get(basic)?.(value) ?? plain("");
}

/** SDM Vol. 3C §27.8: what failed is numbered, an MSR by its entry in the VM-entry MSR-load area. */
function entryFailure(value: bigint, basic: number): Qualification {
  if (basic === MSR_LOAD_FAIL) return plain(`entry ${value} of the VM-entry MSR-load area`);
  if (basic !== INVALID_STATE || value === 0n) return plain("");
  return plain(ENTRY_FAILURES.get(Number(value)) ?? "");
}

function exception(value: bigint, event: bigint | undefined): Qualification {
  if (event === undefined) return plain("");
  const vector = slice(event, 7, 0);
  if (vector === DEBUG_EXCEPTION) return named(value, DEBUG);
  return vector === PAGE_FAULT ? linear(value) : plain("");
}
