import { UNUSABLE } from "./access-rights.ts";
import { CR0_PE, CR4_FRED, type EntryRule, type Facts, has, hex, isCanonical } from "./entry-rules.ts";

const SEGMENTS = "27.3.1.2";
const CODE_AND_DATA = ["CS", "SS", "DS", "ES", "FS", "GS"] as const;
type Register = (typeof CODE_AND_DATA)[number] | "LDTR" | "TR";

const VM = 17;
const CS_L = 13;
const DB = 14;
const G = 15;
/** Read/write, accessed, expand-up data: what CS may be in real mode. */
const DATA_IN_CS = 3;
/** Access rights of every segment in virtual-8086 mode. */
const VIRTUAL_8086_RIGHTS = 0xf3n;

const rights = ({ field }: Facts, register: Register): bigint => field(`GUEST_${register}_AR_BYTES`);
const selector = ({ field }: Facts, register: Register): bigint => field(`GUEST_${register}_SELECTOR`);
const isUsable = (facts: Facts, register: Register): boolean =>
  (rights(facts, register) & BigInt(UNUSABLE)) === 0n;
const typeOf = (value: bigint): number => Number(value & 0xfn);
const dplOf = (value: bigint): number => Number((value >> 5n) & 3n);
const rplOf = (value: bigint): number => Number(value & 3n);
const isVirtual8086 = ({ field }: Facts): boolean => has(field("GUEST_RFLAGS"), VM);

type Check = (facts: Facts, register: Register) => string | undefined;

const rule = (register: Register, id: string, check: Check): EntryRule => ({
  id: `guest.${register}.${id}`,
  section: SEGMENTS,
  area: "guest",
  severity: "error",
  check: (facts) => {
    const problem = check(facts, register);
    return problem === undefined ? undefined : `GUEST_${register} ${problem}`;
  },
});

/** CS, or a register that is usable, outside virtual-8086 mode: what the SDM asks most of the access rights of. */
const whenUsed =
  (check: Check): Check =>
  (facts, register) => {
    if (isVirtual8086(facts)) return undefined;
    return register === "CS" || isUsable(facts, register) ? check(facts, register) : undefined;
  };

const whenUsable =
  (check: Check): Check =>
  (facts, register) =>
    isUsable(facts, register) ? check(facts, register) : undefined;

const inVirtual8086 =
  (check: Check): Check =>
  (facts, register) =>
    isVirtual8086(facts) ? check(facts, register) : undefined;

const codeType: Check = (facts) => {
  const type = typeOf(rights(facts, "CS"));
  if ([9, 11, 13, 15].includes(type)) return undefined;
  if (type === DATA_IN_CS && facts.is("secondary.unrestricted guest")) return undefined;
  return `has type ${type}, which is no accessed code segment`;
};

const stackType: Check = (facts) => {
  const type = typeOf(rights(facts, "SS"));
  return type === 3 || type === 7 ? undefined : `has type ${type}, neither 3 nor 7`;
};

const dataType: Check = (facts, register) => {
  const type = typeOf(rights(facts, register));
  if ((type & 1) === 0) return `has type ${type}, which is not accessed`;
  return (type & 0xa) === 8 ? `has type ${type}, a code segment that is not readable` : undefined;
};

/** Conforming code may be less privileged than the stack, other code must be as privileged. */
const codePrivilege: Check = (facts) => {
  const code = rights(facts, "CS");
  const [type, dpl] = [typeOf(code), dplOf(code)];
  if (type === DATA_IN_CS) return dpl === 0 ? undefined : `has DPL ${dpl} and is a data segment`;
  const stack = dplOf(rights(facts, "SS"));
  if ((type === 9 || type === 11) && dpl !== stack) return `has DPL ${dpl}, SS has ${stack}`;
  if ((type === 13 || type === 15) && dpl > stack) return `is conforming with DPL ${dpl}, SS has ${stack}`;
  return undefined;
};

const stackPrivilege: Check = (facts) => {
  const dpl = dplOf(rights(facts, "SS"));
  const rpl = rplOf(selector(facts, "SS"));
  if (dpl !== rpl && !facts.is("secondary.unrestricted guest")) return `has DPL ${dpl} and RPL ${rpl}`;
  if (dpl === 0) return undefined;
  if (!has(facts.field("GUEST_CR0"), CR0_PE)) return `has DPL ${dpl} although GUEST_CR0.PE is 0`;
  return typeOf(rights(facts, "CS")) === DATA_IN_CS
    ? `has DPL ${dpl} although CS is a data segment`
    : undefined;
};

/** With FRED there are only rings 0 and 3, ring 0 is 64-bit, and ring 3 has no IOPL. */
const fredPrivilege: Check = (facts) => {
  if (isVirtual8086(facts) || !has(facts.field("GUEST_CR4"), CR4_FRED)) return undefined;
  const dpl = dplOf(rights(facts, "SS"));
  if (dpl === 1 || dpl === 2) return `has DPL ${dpl} although GUEST_CR4.FRED is 1`;
  if (dpl === 0) {
    return has(rights(facts, "CS"), CS_L)
      ? undefined
      : "has DPL 0 and CS is not 64-bit although GUEST_CR4.FRED is 1";
  }
  const blocked = has(facts.field("GUEST_INTERRUPTIBILITY_INFO"), 0);
  const iopl = (facts.field("GUEST_RFLAGS") >> 12n) & 3n;
  return blocked || iopl !== 0n
    ? "has DPL 3 with IOPL or blocking by STI although GUEST_CR4.FRED is 1"
    : undefined;
};

const dataPrivilege: Check = (facts, register) => {
  const value = rights(facts, register);
  if (typeOf(value) > 11 || facts.is("secondary.unrestricted guest")) return undefined;
  const [dpl, rpl] = [dplOf(value), rplOf(selector(facts, register))];
  return dpl < rpl ? `has DPL ${dpl}, less than RPL ${rpl}` : undefined;
};

const isSystem =
  (system: boolean): Check =>
  (facts, register) =>
    has(rights(facts, register), 4) === system ? `is ${system ? "no" : "a"} system segment` : undefined;

const present: Check = (facts, register) =>
  has(rights(facts, register), 7) ? undefined : "is usable and not present";

const reserved: Check = (facts, register) => {
  const bits = rights(facts, register) & 0xfffe_0f00n;
  return bits === 0n ? undefined : `has reserved access rights set: ${hex(bits)}`;
};

/** A limit in pages ends with 0xfff; one of 1 MiB or more must be in pages. */
const granularity: Check = (facts, register) => {
  const limit = facts.field(`GUEST_${register}_LIMIT`);
  const pages = has(rights(facts, register), G);
  if (pages && (limit & 0xfffn) !== 0xfffn) return `has limit ${hex(limit)} with G 1`;
  return !pages && limit >> 20n !== 0n ? `has limit ${hex(limit)} with G 0` : undefined;
};

const codeSize: Check = (facts) => {
  const code = rights(facts, "CS");
  return facts.is("entry.IA-32e mode guest") && has(code, CS_L) && has(code, DB)
    ? "has L and D/B set"
    : undefined;
};

const canonicalBase: Check = (facts, register) => {
  const base = facts.field(`GUEST_${register}_BASE`);
  return isCanonical(base) ? undefined : `has base ${hex(base)}, which is not canonical`;
};
const lowBase: Check = (facts, register) => {
  const base = facts.field(`GUEST_${register}_BASE`);
  return base >> 32n === 0n ? undefined : `has base ${hex(base)} above 4 GiB`;
};
const noLdt: Check = (facts, register) =>
  has(selector(facts, register), 2) ? "has a selector into the LDT" : undefined;

const VIRTUAL_8086: readonly (readonly [id: string, check: Check])[] = [
  [
    "v8086 base",
    (facts, register) => {
      const base = facts.field(`GUEST_${register}_BASE`);
      const expected = selector(facts, register) << 4n;
      return base === expected ? undefined : `has base ${hex(base)}, its selector says ${hex(expected)}`;
    },
  ],
  [
    "v8086 limit",
    (facts, register) => {
      const limit = facts.field(`GUEST_${register}_LIMIT`);
      return limit === 0xffffn ? undefined : `has limit ${hex(limit)} in virtual-8086 mode`;
    },
  ],
  [
    "v8086 rights",
    (facts, register) => {
      const value = rights(facts, register);
      return value === VIRTUAL_8086_RIGHTS
        ? undefined
        : `has access rights ${hex(value)} in virtual-8086 mode`;
    },
  ],
];

const typeCheck = (register: (typeof CODE_AND_DATA)[number]): Check =>
  register === "CS" ? codeType : register === "SS" ? stackType : dataType;

function baseRule(register: (typeof CODE_AND_DATA)[number]): EntryRule {
  if (register === "FS" || register === "GS") return rule(register, "base", canonicalBase);
  return rule(register, "base", register === "CS" ? lowBase : whenUsable(lowBase));
}

const codeAndDataRules = (register: (typeof CODE_AND_DATA)[number]): EntryRule[] => [
  baseRule(register),
  ...VIRTUAL_8086.map(([id, check]) => rule(register, id, inVirtual8086(check))),
  rule(register, "type", whenUsed(typeCheck(register))),
  rule(register, "S", whenUsed(isSystem(false))),
  rule(register, "P", whenUsed(present)),
  rule(register, "reserved", whenUsed(reserved)),
  rule(register, "G", whenUsed(granularity)),
];

const systemRules = (register: "LDTR" | "TR", guard: (check: Check) => Check): EntryRule[] => [
  rule(register, "selector", guard(noLdt)),
  rule(register, "base", guard(canonicalBase)),
  rule(register, "S", guard(isSystem(true))),
  rule(register, "P", guard(present)),
  rule(register, "reserved", guard(reserved)),
  rule(register, "G", guard(granularity)),
];

/** Outside virtual-8086 mode, usable or not: SS tells the privilege level. */
const notVirtual8086 =
  (check: Check): Check =>
  (facts, register) =>
    isVirtual8086(facts) ? undefined : check(facts, register);

/** SDM Vol. 3C §27.3.1.2. */
export const SEGMENT_RULES: readonly EntryRule[] = [
  ...CODE_AND_DATA.flatMap(codeAndDataRules),
  rule("SS", "RPL", (facts) => {
    if (isVirtual8086(facts) || facts.is("secondary.unrestricted guest")) return undefined;
    const [stack, code] = [rplOf(selector(facts, "SS")), rplOf(selector(facts, "CS"))];
    return stack === code ? undefined : `has RPL ${stack}, CS has ${code}`;
  }),
  rule("CS", "DPL", notVirtual8086(codePrivilege)),
  rule("SS", "DPL", notVirtual8086(stackPrivilege)),
  rule("SS", "FRED", fredPrivilege),
  ...(["DS", "ES", "FS", "GS"] as const).map((register) => rule(register, "DPL", whenUsed(dataPrivilege))),
  rule("CS", "D/B", notVirtual8086(codeSize)),
  ...systemRules("LDTR", whenUsable),
  rule(
    "LDTR",
    "type",
    whenUsable((facts) => {
      const type = typeOf(rights(facts, "LDTR"));
      return type === 2 ? undefined : `has type ${type}, which is no LDT`;
    }),
  ),
  ...systemRules("TR", (check) => check),
  rule("TR", "type", (facts) => {
    const type = typeOf(rights(facts, "TR"));
    if (type === 11 || (type === 3 && !facts.is("entry.IA-32e mode guest"))) return undefined;
    return `has type ${type}, which is no busy TSS`;
  }),
  rule("TR", "usable", (facts) => (isUsable(facts, "TR") ? undefined : "is unusable")),
];
