import {
  CR0_NE,
  CR0_PE,
  CR0_PG,
  CR0_WP,
  CR4_CET,
  CR4_FRED,
  CR4_PAE,
  CR4_PCIDE,
  CR4_UNKNOWN,
  CR4_VMXE,
  canonicalRule,
  EFER_LMA,
  EFER_LME,
  EFER_RESERVED,
  type EntryRule,
  has,
  hex,
  invalidPat,
  isCanonical,
  PHYSICAL_END,
} from "./entry-rules.ts";

const REGISTERS = "27.2.2";
const SEGMENTS = "27.2.3";
const ADDRESS_SPACE = "27.2.4";

const rule = (
  id: string,
  section: string,
  check: EntryRule["check"],
  severity: EntryRule["severity"] = "error",
): EntryRule => ({ id: `host.${id}`, section, area: "host", severity, check });
const canonical = (section: string, name: string, control?: Parameters<typeof canonicalRule>[4]): EntryRule =>
  canonicalRule(`host.${name}`, section, "host", name, control);

const CR0_FIXED: readonly (readonly [bit: number, name: string])[] = [
  [CR0_PE, "PE"],
  [CR0_NE, "NE"],
  [CR0_PG, "PG"],
];

/** Selectors that VM exit loads; those of CS and TR must not be null. */
const SELECTORS = ["CS", "SS", "DS", "ES", "FS", "GS", "TR"] as const;

const selectorRules = (register: (typeof SELECTORS)[number]): EntryRule[] => {
  const name = `HOST_${register}_SELECTOR`;
  const bits = rule(name, SEGMENTS, ({ field }) => {
    const selector = field(name);
    return (selector & 7n) === 0n ? undefined : `${name} ${hex(selector)} has RPL or TI set`;
  });
  const needsOne = register === "CS" || register === "TR" || register === "SS";
  if (!needsOne) return [bits];
  const present = rule(`${name}.null`, SEGMENTS, ({ field, is }) => {
    if (register === "SS" && is("exit.host address-space size")) return undefined;
    return field(name) === 0n ? `${name} is null` : undefined;
  });
  return [bits, present];
};

/** SDM Vol. 3C §27.2.2 to §27.2.4. */
export const HOST_RULES: readonly EntryRule[] = [
  rule("CR0", REGISTERS, ({ field }) => {
    const cr0 = field("HOST_CR0");
    const clear = CR0_FIXED.filter(([bit]) => !has(cr0, bit)).map(([, name]) => name);
    if (clear.length > 0) return `HOST_CR0 ${hex(cr0)} lacks ${clear.join(", ")}`;
    return cr0 >> 32n === 0n ? undefined : `HOST_CR0 ${hex(cr0)} has bits above 31 set`;
  }),
  rule("CR4", REGISTERS, ({ field }) =>
    has(field("HOST_CR4"), CR4_VMXE) ? undefined : "HOST_CR4 lacks VMXE",
  ),
  rule(
    "CR4.unknown",
    REGISTERS,
    ({ field }) => {
      const unknown = field("HOST_CR4") & CR4_UNKNOWN;
      return unknown === 0n ? undefined : `HOST_CR4 has bits set that are not known: ${hex(unknown)}`;
    },
    "warning",
  ),
  rule("CR4.CET", REGISTERS, ({ field }) =>
    has(field("HOST_CR4"), CR4_CET) && !has(field("HOST_CR0"), CR0_WP)
      ? "HOST_CR4.CET is 1 although HOST_CR0.WP is 0"
      : undefined,
  ),
  rule("CR3", REGISTERS, ({ field }) => {
    const cr3 = field("HOST_CR3");
    return cr3 < PHYSICAL_END ? undefined : `HOST_CR3 ${hex(cr3)} is beyond every physical address`;
  }),
  canonical(REGISTERS, "HOST_IA32_SYSENTER_ESP"),
  canonical(REGISTERS, "HOST_IA32_SYSENTER_EIP"),
  rule("PAT", REGISTERS, ({ field, is }) =>
    is("exit.load IA32_PAT") ? invalidPat("HOST_IA32_PAT", field("HOST_IA32_PAT")) : undefined,
  ),
  rule("EFER", REGISTERS, ({ field, is }) => {
    if (!is("exit.load IA32_EFER")) return undefined;
    const efer = field("HOST_IA32_EFER");
    if ((efer & EFER_RESERVED) !== 0n) return `HOST_IA32_EFER ${hex(efer)} has reserved bits set`;
    const long = is("exit.host address-space size");
    return has(efer, EFER_LMA) === long && has(efer, EFER_LME) === long
      ? undefined
      : `HOST_IA32_EFER ${hex(efer)} has other LMA or LME than "host address-space size"`;
  }),
  rule("SSP", REGISTERS, ({ field, is }) => {
    if (!is("exit.load CET state")) return undefined;
    const ssp = field("HOST_SSP");
    return (ssp & 3n) === 0n ? undefined : `HOST_SSP ${hex(ssp)} is not aligned to 4 bytes`;
  }),
  rule("S_CET", REGISTERS, ({ field, is }) => {
    if (!is("exit.load CET state")) return undefined;
    const cet = field("HOST_S_CET");
    return (cet & 0xc00n) === 0xc00n ? `HOST_S_CET ${hex(cet)} has SUPPRESS and TRACKER set` : undefined;
  }),
  rule("PKRS", REGISTERS, ({ field, is }) => {
    if (!is("exit.load PKRS")) return undefined;
    const pkrs = field("HOST_IA32_PKRS");
    return pkrs >> 32n === 0n ? undefined : `HOST_IA32_PKRS ${hex(pkrs)} has bits above 31 set`;
  }),
  ...SELECTORS.flatMap(selectorRules),
  ...["FS", "GS", "GDTR", "IDTR", "TR"].map((register) => canonical(SEGMENTS, `HOST_${register}_BASE`)),
  rule("address space", ADDRESS_SPACE, ({ is }) =>
    is("entry.IA-32e mode guest") && !is("exit.host address-space size")
      ? '"IA-32e mode guest" is 1 although "host address-space size" is 0'
      : undefined,
  ),
  rule("32-bit host", ADDRESS_SPACE, ({ field, is }) => {
    if (is("exit.host address-space size")) return undefined;
    const cr4 = field("HOST_CR4");
    if (has(cr4, CR4_PCIDE)) return 'HOST_CR4.PCIDE is 1 although "host address-space size" is 0';
    if (has(cr4, CR4_FRED)) return 'HOST_CR4.FRED is 1 although "host address-space size" is 0';
    const rip = field("HOST_RIP");
    return rip >> 32n === 0n ? undefined : `HOST_RIP ${hex(rip)} has bits above 31 set in a 32-bit host`;
  }),
  rule("CR4.PAE", ADDRESS_SPACE, ({ field, is }) =>
    is("exit.host address-space size") && !has(field("HOST_CR4"), CR4_PAE)
      ? 'HOST_CR4.PAE is 0 although "host address-space size" is 1'
      : undefined,
  ),
  rule("RIP", ADDRESS_SPACE, ({ field, is }) => {
    if (!is("exit.host address-space size")) return undefined;
    const rip = field("HOST_RIP");
    return isCanonical(rip) ? undefined : `HOST_RIP ${hex(rip)} is not a canonical address`;
  }),
  canonical(ADDRESS_SPACE, "HOST_SSP", "exit.load CET state"),
  canonical(ADDRESS_SPACE, "HOST_S_CET", "exit.load CET state"),
  canonical(ADDRESS_SPACE, "HOST_INTR_SSP_TABLE", "exit.load CET state"),
];
