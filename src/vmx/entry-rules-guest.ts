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
  type Facts,
  has,
  hasEqualTop,
  hex,
  invalidPat,
  isCanonical,
  PHYSICAL_END,
} from "./entry-rules.ts";
import { decodeEvent, EXTERNAL_INTERRUPT } from "./events.ts";

const REGISTERS = "27.3.1.1";
const TABLES = "27.3.1.3";
const POINTERS = "27.3.1.4";
const PDPTES = "27.3.1.6";

const rule = (
  id: string,
  section: string,
  check: EntryRule["check"],
  severity: EntryRule["severity"] = "error",
): EntryRule => ({ id: `guest.${id}`, section, area: "guest", severity, check });
const canonical = (section: string, name: string, control?: Parameters<typeof canonicalRule>[4]): EntryRule =>
  canonicalRule(`guest.${name}`, section, "guest", name, control);

/** Bits above 31 must be clear, with `control` 1. */
const low32 = (
  id: string,
  name: string,
  control: Parameters<Facts["is"]>[0],
  section = REGISTERS,
): EntryRule =>
  rule(id, section, ({ field, is }) => {
    if (!is(control)) return undefined;
    const value = field(name);
    return value >> 32n === 0n ? undefined : `${name} ${hex(value)} has bits above 31 set`;
  });

/** IA32_DEBUGCTL bits that are reserved on the processors known so far (SDM Vol. 3B §17.4.1). */
const DEBUGCTL_UNKNOWN = ~0xdfc7n;

const REGISTER_RULES: readonly EntryRule[] = [
  rule("CR0", REGISTERS, ({ field, is }) => {
    const cr0 = field("GUEST_CR0");
    if (!has(cr0, CR0_NE)) return `GUEST_CR0 ${hex(cr0)} lacks NE`;
    if (cr0 >> 32n !== 0n) return `GUEST_CR0 ${hex(cr0)} has bits above 31 set`;
    if (has(cr0, CR0_PE) && has(cr0, CR0_PG)) return undefined;
    return is("secondary.unrestricted guest")
      ? undefined
      : `GUEST_CR0 ${hex(cr0)} lacks PE or PG although "unrestricted guest" is 0`;
  }),
  rule("CR0.PG", REGISTERS, ({ field }) => {
    const cr0 = field("GUEST_CR0");
    return has(cr0, CR0_PG) && !has(cr0, CR0_PE) ? "GUEST_CR0.PG is 1 although PE is 0" : undefined;
  }),
  rule("CR4", REGISTERS, ({ field }) =>
    has(field("GUEST_CR4"), CR4_VMXE) ? undefined : "GUEST_CR4 lacks VMXE",
  ),
  rule(
    "CR4.unknown",
    REGISTERS,
    ({ field }) => {
      const unknown = field("GUEST_CR4") & CR4_UNKNOWN;
      return unknown === 0n ? undefined : `GUEST_CR4 has bits set that are not known: ${hex(unknown)}`;
    },
    "warning",
  ),
  rule("CR4.CET", REGISTERS, ({ field }) =>
    has(field("GUEST_CR4"), CR4_CET) && !has(field("GUEST_CR0"), CR0_WP)
      ? "GUEST_CR4.CET is 1 although GUEST_CR0.WP is 0"
      : undefined,
  ),
  rule(
    "DEBUGCTL",
    REGISTERS,
    ({ field, is }) => {
      if (!is("entry.load debug controls")) return undefined;
      const unknown = field("GUEST_IA32_DEBUGCTL") & DEBUGCTL_UNKNOWN;
      return unknown === 0n
        ? undefined
        : `GUEST_IA32_DEBUGCTL has bits set that are not known: ${hex(unknown)}`;
    },
    "warning",
  ),
  rule("IA-32e mode", REGISTERS, ({ field, is }) => {
    if (!is("entry.IA-32e mode guest")) return undefined;
    if (!has(field("GUEST_CR0"), CR0_PG)) return 'GUEST_CR0.PG is 0 although "IA-32e mode guest" is 1';
    return has(field("GUEST_CR4"), CR4_PAE)
      ? undefined
      : 'GUEST_CR4.PAE is 0 although "IA-32e mode guest" is 1';
  }),
  rule("legacy mode", REGISTERS, ({ field, is }) => {
    if (is("entry.IA-32e mode guest")) return undefined;
    const cr4 = field("GUEST_CR4");
    if (has(cr4, CR4_PCIDE)) return 'GUEST_CR4.PCIDE is 1 although "IA-32e mode guest" is 0';
    return has(cr4, CR4_FRED) ? 'GUEST_CR4.FRED is 1 although "IA-32e mode guest" is 0' : undefined;
  }),
  rule("CR3", REGISTERS, ({ field }) => {
    const cr3 = field("GUEST_CR3");
    return cr3 < PHYSICAL_END ? undefined : `GUEST_CR3 ${hex(cr3)} has reserved bits set`;
  }),
  low32("DR7", "GUEST_DR7", "entry.load debug controls"),
  canonical(REGISTERS, "GUEST_SYSENTER_ESP"),
  canonical(REGISTERS, "GUEST_SYSENTER_EIP"),
  canonical(REGISTERS, "GUEST_S_CET", "entry.load CET state"),
  canonical(REGISTERS, "GUEST_INTR_SSP_TABLE", "entry.load CET state"),
  rule("S_CET", REGISTERS, ({ field, is }) => {
    if (!is("entry.load CET state")) return undefined;
    const cet = field("GUEST_S_CET");
    return (cet & 0xc00n) === 0xc00n ? `GUEST_S_CET ${hex(cet)} has SUPPRESS and TRACKER set` : undefined;
  }),
  rule("PAT", REGISTERS, ({ field, is }) =>
    is("entry.load IA32_PAT") ? invalidPat("GUEST_IA32_PAT", field("GUEST_IA32_PAT")) : undefined,
  ),
  rule("EFER", REGISTERS, ({ field, is }) => {
    if (!is("entry.load IA32_EFER")) return undefined;
    const efer = field("GUEST_IA32_EFER");
    if ((efer & EFER_RESERVED) !== 0n) return `GUEST_IA32_EFER ${hex(efer)} has reserved bits set`;
    if (has(efer, EFER_LMA) !== is("entry.IA-32e mode guest")) {
      return `GUEST_IA32_EFER ${hex(efer)} has another LMA than "IA-32e mode guest"`;
    }
    return has(field("GUEST_CR0"), CR0_PG) && has(efer, EFER_LMA) !== has(efer, EFER_LME)
      ? `GUEST_IA32_EFER ${hex(efer)} has another LME than LMA although GUEST_CR0.PG is 1`
      : undefined;
  }),
  rule("BNDCFGS", REGISTERS, ({ field, is }) => {
    if (!is("entry.load IA32_BNDCFGS")) return undefined;
    const value = field("GUEST_BNDCFGS");
    if ((value & 0xffcn) !== 0n) return `GUEST_BNDCFGS ${hex(value)} has reserved bits set`;
    return isCanonical(value & ~0xfffn) ? undefined : `GUEST_BNDCFGS ${hex(value)} is not canonical`;
  }),
  low32("PKRS", "GUEST_IA32_PKRS", "entry.load PKRS"),
  rule("UINV", REGISTERS, ({ field, is }) => {
    if (!is("entry.load UINV")) return undefined;
    const uinv = field("GUEST_UINV");
    return uinv > 0xffn ? `GUEST_UINV ${hex(uinv)} is no vector` : undefined;
  }),
];

const TABLE_RULES: readonly EntryRule[] = ["GDTR", "IDTR"].flatMap((table) => [
  canonical(TABLES, `GUEST_${table}_BASE`),
  rule(`${table}.limit`, TABLES, ({ field }) => {
    const limit = field(`GUEST_${table}_LIMIT`);
    return limit > 0xffffn ? `GUEST_${table}_LIMIT ${hex(limit)} has bits above 15 set` : undefined;
  }),
]);

const CS_L = 13;
const RFLAGS_RESERVED = ~0x3f_7fd7n;
const IF = 9;
const VM = 17;

const POINTER_RULES: readonly EntryRule[] = [
  rule("RIP", POINTERS, ({ field, is }) => {
    const rip = field("GUEST_RIP");
    const code64 = is("entry.IA-32e mode guest") && has(field("GUEST_CS_AR_BYTES"), CS_L);
    if (code64) return hasEqualTop(rip) ? undefined : `GUEST_RIP ${hex(rip)} is no linear address`;
    return rip >> 32n === 0n ? undefined : `GUEST_RIP ${hex(rip)} has bits above 31 set outside 64-bit mode`;
  }),
  rule("RFLAGS", POINTERS, ({ field }) => {
    const rflags = field("GUEST_RFLAGS");
    if ((rflags & RFLAGS_RESERVED) !== 0n) return `GUEST_RFLAGS ${hex(rflags)} has reserved bits set`;
    return has(rflags, 1) ? undefined : `GUEST_RFLAGS ${hex(rflags)} has bit 1 clear`;
  }),
  rule("RFLAGS.VM", POINTERS, ({ field, is }) => {
    if (!has(field("GUEST_RFLAGS"), VM)) return undefined;
    if (is("entry.IA-32e mode guest")) return 'RFLAGS.VM is 1 although "IA-32e mode guest" is 1';
    return has(field("GUEST_CR0"), CR0_PE) ? undefined : "RFLAGS.VM is 1 although GUEST_CR0.PE is 0";
  }),
  rule("RFLAGS.IF", POINTERS, ({ field }) => {
    const { valid, type } = decodeEvent(field("VM_ENTRY_INTR_INFO_FIELD"));
    if (!valid || type !== EXTERNAL_INTERRUPT || has(field("GUEST_RFLAGS"), IF)) return undefined;
    return "RFLAGS.IF is 0 although an external interrupt is to be injected";
  }),
  rule("SSP", POINTERS, ({ field, is }) => {
    if (!is("entry.load CET state")) return undefined;
    const ssp = field("GUEST_SSP");
    if ((ssp & 3n) !== 0n) return `GUEST_SSP ${hex(ssp)} is not aligned to 4 bytes`;
    const code64 = is("entry.IA-32e mode guest") && has(field("GUEST_CS_AR_BYTES"), CS_L);
    if (!code64 && ssp >> 32n !== 0n)
      return `GUEST_SSP ${hex(ssp)} has bits above 31 set outside 64-bit mode`;
    return hasEqualTop(ssp) ? undefined : `GUEST_SSP ${hex(ssp)} is no linear address`;
  }),
];

/** Reserved bits of a PDPTE that is present (SDM Vol. 3A Table 4-8). */
const PDPTE_RESERVED = 0xfff0_0000_0000_01e6n;
const PDPTE_RULES: readonly EntryRule[] = [0, 1, 2, 3].map((index) =>
  rule(`PDPTR${index}`, PDPTES, ({ field, is }) => {
    if (!is("secondary.enable EPT") || is("entry.IA-32e mode guest")) return undefined;
    if (!has(field("GUEST_CR0"), CR0_PG) || !has(field("GUEST_CR4"), CR4_PAE)) return undefined;
    const entry = field(`GUEST_PDPTR${index}`);
    if (!has(entry, 0) || (entry & PDPTE_RESERVED) === 0n) return undefined;
    return `GUEST_PDPTR${index} ${hex(entry)} is present and has reserved bits set`;
  }),
);

/** SDM Vol. 3C §27.3.1 but for segments (§27.3.1.2) and what is no register (§27.3.1.5). */
export const GUEST_RULES: readonly EntryRule[] = [
  ...REGISTER_RULES,
  ...TABLE_RULES,
  ...POINTER_RULES,
  ...PDPTE_RULES,
];
