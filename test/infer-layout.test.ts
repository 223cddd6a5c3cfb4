import { describe, expect, test } from "vitest";
import { noVmcs } from "../src/jobs/infer-layout.ts";
import { kernelIn, kvmTypes } from "./support/kvm.ts";
import { KvmHeap, type KvmMember } from "./synth/kvm.ts";

/** What is said of a kernel without some types and with some modules. */
function said(without: readonly KvmMember[], modules: readonly string[], problems: readonly string[] = []) {
  const kernel = kernelIn(new KvmHeap(), kvmTypes(...without));
  const loaded = { modules: modules.map((name) => ({ name })), complete: true };
  const symbols = Object.assign(Object.create(kernel.symbols), { modules: loaded });
  const { message, hint } = noVmcs({ ...kernel, symbols, problems });
  return { message, hint };
}

describe("why no VMCS of a host with vCPUs can be looked at", () => {
  const NEITHER: KvmMember[] = ["vcpu_vmx.vcpu", "vcpu_svm.vcpu"];

  test("Intel's types are known", () => {
    expect(said(["vcpu_svm.vcpu"], ["kvm_intel", "kvm"]).message).toBe(
      "no VMCS of the host's vCPUs is in this dump",
    );
  });

  test.each([
    ["the types of kvm_amd", ["vcpu_vmx.vcpu"], []],
    ["the module kvm_amd", NEITHER, ["kvm_amd", "kvm"]],
  ] as const)("AMD's: %s tell", (_, without, modules) => {
    expect(said(without, modules).message).toBe("the host's vCPUs are not Intel's");
  });

  test("neither: nobody calls the host AMD's", () => {
    const message = "the types of kvm_intel are not known";
    expect(said(NEITHER, ["kvm_intel", "kvm"]).message).toBe(message);
    expect(said(NEITHER, []).message).toBe(message);
    expect(said(["vcpu_vmx.vcpu"], ["kvm_intel"]).message).toBe(message);
    const { hint } = said(NEITHER, ["kvm_intel"], ["kvm_intel: not all in the dump"]);
    expect(hint).toMatch(/BTF of the kernel's modules .*: kvm_intel: not all in the dump$/);
  });
});
