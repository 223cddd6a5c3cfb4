import { describe, expect, test } from "vitest";
import { describeField } from "../src/vmx/describe.ts";
import { checkEntry, ENTRY_RULES, wasEntered } from "../src/vmx/entry-checks.ts";
import { fieldOf } from "../src/vmx/fields.ts";
import { BOCHS } from "../src/vmx/layouts/bochs.ts";
import { decodeRegion } from "../src/vmx/region.ts";
import { stateOf } from "../src/vmx/state.ts";
import { SEGMENT_REGISTERS } from "../src/x86/state.ts";
import { realVmcss, whyNoVmxData } from "./support/vmx-data.ts";

/** What is the host CPU's own: other values where the thread moved on to another CPU after VMREAD. */
const MOVED = [
  "HOST_CR3",
  "HOST_CR4",
  "HOST_GS_BASE",
  "HOST_TR_BASE",
  "HOST_GDTR_BASE",
  "HOST_IA32_SYSENTER_ESP",
];
/** The guest went on running, until the crash NMI made it exit. */
const RAN_ON = [
  "GUEST_CS_SELECTOR",
  "GUEST_SS_SELECTOR",
  "VM_EXIT_REASON",
  "VM_EXIT_INTR_INFO",
  "VM_EXIT_INSTRUCTION_LEN",
  "GUEST_SS_LIMIT",
  "GUEST_CS_AR_BYTES",
  "GUEST_SS_AR_BYTES",
  "VMX_PREEMPTION_TIMER_VALUE",
  "EXIT_QUALIFICATION",
  "GUEST_FS_BASE",
  "GUEST_GS_BASE",
  "GUEST_RSP",
  "GUEST_RIP",
  "GUEST_RFLAGS",
  "HOST_RSP",
];
/** Fields that are newer in the dump than what VMREAD told shortly before. */
const NEWER: Readonly<Record<string, readonly string[]>> = {
  "pattern-guest 0x2549000": ["VM_EXIT_INTR_INFO", ...MOVED],
  "pattern-guest 0x25ff000": ["VM_EXIT_REASON", "VM_EXIT_INTR_INFO", "GUEST_RFLAGS", ...MOVED],
  "linux-guest 0x19e4000": ["VMX_PREEMPTION_TIMER_VALUE", ...MOVED],
  "linux-guest 0x1df82000": RAN_ON,
};
/** Its idle task had another process's page tables when KVM_GET_SREGS was asked. */
const OTHER_CR3 = "linux-guest 0x19e4000";

describe.skipIf(whyNoVmxData !== undefined)(
  `VMCSs of real hosts${whyNoVmxData === undefined ? "" : ` (skipped: ${whyNoVmxData})`}`,
  () => {
    const all = (["pattern-guest", "linux-guest"] as const).flatMap((dump) =>
      whyNoVmxData === undefined ? realVmcss(dump).map((vmcs) => ({ dump, ...vmcs })) : [],
    );
    const cases = all.map((vmcs) => ({
      name: `${vmcs.dump} 0x${vmcs.address.toString(16)}`,
      ...vmcs,
      region: decodeRegion(vmcs.bytes, BOCHS),
    }));

    test("four and two of them", () => {
      expect(cases.map(({ dump }) => dump)).toEqual([
        ...Array(4).fill("pattern-guest"),
        ...Array(2).fill("linux-guest"),
      ]);
      expect(cases.filter(({ region }) => !wasEntered(region)).length).toBe(1);
    });

    test.each(cases)("$name: every field is what VMREAD said", ({ name, region, truth }) => {
      expect(truth.size).toBeGreaterThan(120);
      const other = [...truth].filter(([encoding, value]) => region.values.get(encoding) !== value);
      expect(other.map(([encoding]) => fieldOf(encoding)!.name)).toEqual(NEWER[name] ?? []);
    });

    test.each(cases)("$name: every field is described", ({ region, truth }) => {
      for (const encoding of truth.keys()) {
        const meaning = describeField(region, encoding);
        expect(meaning, encoding.toString(16)).toBeDefined();
        expect(meaning!.text).not.toMatch(/undefined|NaN|\n/);
      }
    });

    test.each(cases)("$name: the state is what KVM_GET_SREGS said", ({ name: vmcs, region, registers }) => {
      const { state, sources, missing } = stateOf(region);
      expect(missing).toEqual([]);
      for (const name of ["cr0", "cr4", "efer", "cr3", "rsp"] as const) {
        if (name === "cr3" && vmcs === OTHER_CR3) continue;
        expect(state![name], name).toBe(BigInt(registers.get(name)!));
        expect(sources[name], name).toMatch(/^V/);
      }
      for (const name of ["gdt", "idt"] as const) {
        expect(`base=${hex(state![name].base)} limit=${hex(state![name].limit)}`).toBe(registers.get(name));
      }
      for (const name of SEGMENT_REGISTERS) {
        const { selector, base, limit, flags } = state!.segments[name];
        const [, rights, unusable] = / ar=(\S+) unusable=(\d)$/.exec(registers.get(name)!)!;
        expect(`sel=${hex(selector)} base=${hex(base)} limit=${hex(limit)}`, name).toBe(
          registers.get(name)!.replace(/ ar=.*/, ""),
        );
        const expected = (Number(rights) & 0xf0ff) << 8;
        expect(flags, name).toBe(unusable === "1" ? expected & ~0x8000 : expected);
      }
    });

    test.each(cases)("$name: RIP is where it was, or at the HLT before", ({ region, registers }) => {
      const { state } = stateOf(region);
      if (!wasEntered(region)) return;
      const behind = BigInt(registers.get("rip")!) - state!.rip;
      expect(behind).toBe(region.values.get(0x4402) === 12n ? 1n : 0n);
      // RF is set by the exit that the crash NMI caused.
      expect(state!.rflags & ~0x10000n).toBe(BigInt(registers.get("rflags")!) & ~0x10000n);
    });

    test.each(cases)("$name: VM entry would take it", ({ region }) => {
      const { violations, notChecked, passed, everEntered } = checkEntry(region);
      expect(violations.filter(({ severity }) => severity !== "note")).toEqual([]);
      expect(everEntered).toBe(wasEntered(region));
      if (everEntered) expect(violations).toEqual([]);
      else expect(violations.map(({ id }) => id)).toEqual(["controls.EPT_POINTER"]);
      expect(notChecked).toEqual([]);
      expect(passed).toBe(ENTRY_RULES.length - violations.length);
    });
  },
);

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;
