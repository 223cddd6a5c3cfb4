import type { VmcsLayout } from "./layout.ts";
import { BOCHS, BOCHS_BEFORE_2023_11 } from "./layouts/bochs.ts";
import { HASWELL } from "./layouts/haswell.ts";
import { HYPERV_EVMCS } from "./layouts/hyperv-evmcs.ts";
import { KVM_VMCS12 } from "./layouts/kvm-vmcs12.ts";
import { KVM_VMCS12_3_11 } from "./layouts/kvm-vmcs12-3.11.ts";
import { NEHALEM } from "./layouts/nehalem.ts";
import { PENRYN } from "./layouts/penryn.ts";
import { SANDY_BRIDGE } from "./layouts/sandybridge.ts";
import { SKYLAKE } from "./layouts/skylake.ts";
import { VMWARE_NESTED } from "./layouts/vmware-nested.ts";
import { WESTMERE } from "./layouts/westmere.ts";
import { XEN_NESTED } from "./layouts/xen-nested.ts";

/** Every layout known: one file and one line here each. */
export const VMCS_LAYOUTS: readonly VmcsLayout[] = [
  PENRYN,
  NEHALEM,
  WESTMERE,
  SANDY_BRIDGE,
  HASWELL,
  SKYLAKE,
  KVM_VMCS12,
  KVM_VMCS12_3_11,
  HYPERV_EVMCS,
  XEN_NESTED,
  VMWARE_NESTED,
  BOCHS,
  BOCHS_BEFORE_2023_11,
];
