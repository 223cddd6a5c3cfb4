import { slice } from "./meaning.ts";

/** VM-exit instruction information (Intel SDM Vol. 3C §28.2.5, Tables 28-8 to 28-14). */

const REGISTERS = "RAX RCX RDX RBX RSP RBP RSI RDI R8 R9 R10 R11 R12 R13 R14 R15".split(" ");
const SEGMENTS = "ES CS SS DS FS GS".split(" ");
const ADDRESS_SIZES = [16, 32, 64];

const segmentOf = (value: bigint): string => SEGMENTS[slice(value, 17, 15)] ?? "?";
const addressSizeOf = (value: bigint): string => `${ADDRESS_SIZES[slice(value, 9, 7)] ?? "?"}-bit address`;

/** `[DS: RAX + RCX*4], 64-bit address`; the displacement is the exit qualification. */
function memoryOperand(value: bigint): string {
  const parts: string[] = [];
  if (slice(value, 27, 27) === 0) parts.push(REGISTERS[slice(value, 26, 23)]!);
  if (slice(value, 22, 22) === 0) {
    parts.push(`${REGISTERS[slice(value, 21, 18)]!}*${1 << slice(value, 1, 0)}`);
  }
  parts.push("displacement");
  return `[${segmentOf(value)}: ${parts.join(" + ")}], ${addressSizeOf(value)}`;
}

const register = (value: bigint, high: number, low: number): string => REGISTERS[slice(value, high, low)]!;
const operand = (value: bigint): string =>
  slice(value, 10, 10) === 1 ? register(value, 6, 3) : memoryOperand(value);

function stringPort(value: bigint): string {
  return `${addressSizeOf(value)}, segment ${segmentOf(value)}`;
}

function descriptorTable(value: bigint): string {
  const name = ["SGDT", "SIDT", "LGDT", "LIDT"][slice(value, 29, 28)]!;
  return `${name} ${memoryOperand(value)}`;
}

const selectorInstruction = (value: bigint): string =>
  `${["SLDT", "STR", "LLDT", "LTR"][slice(value, 29, 28)]!} ${operand(value)}`;
const withRegister = (value: bigint): string => `${register(value, 31, 28)}, ${memoryOperand(value)}`;
const vmread = (value: bigint): string => `${operand(value)}, field in ${register(value, 31, 28)}`;
const toRegister = (value: bigint): string =>
  `to ${register(value, 6, 3)}, ${[16, 32, 64][slice(value, 12, 11)] ?? "?"}-bit operand`;

/** Basic exit reason → reading; INS and OUTS (30) tell by the exit qualification whether they are meant. */
const BY_REASON: ReadonlyMap<number, (value: bigint) => string> = new Map([
  [19, memoryOperand],
  [21, memoryOperand],
  [22, memoryOperand],
  [23, vmread],
  [25, vmread],
  [27, memoryOperand],
  [30, stringPort],
  [46, descriptorTable],
  [47, selectorInstruction],
  [50, withRegister],
  [53, withRegister],
  [57, toRegister],
  [58, withRegister],
  [61, toRegister],
  [63, memoryOperand],
  [64, memoryOperand],
  [67, toRegister],
  [68, toRegister],
]);

/** The instruction's operands; undefined when exits of that reason leave the field undefined. */
export const describeInstruction = (value: bigint, basicReason: number): string | undefined =>
  BY_REASON.get(basicReason)?.(value);
