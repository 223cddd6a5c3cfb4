/**
 * What becomes of a machine check in a pseries guest, by the age of the host's kernel and of QEMU. KVM's exit
 * (KVM_EXIT_NMI, 16) for machine checks needs the capability KVM_CAP_PPC_FWNMI (146), merged for Linux 4.13
 * (134764ed6e12, e20bbd3d8d5c; HV KVM alone); QEMU 5.0 sets it when the guest calls ibm,nmi-register
 * (ec010c00665b), with `cap-fwnmi`, which is on from machine pseries-5.0. Read in Linux arch/powerpc/kvm/book3s_hv.c,
 * arch/powerpc/platforms/pseries/ras.c, QEMU hw/ppc/spapr_events.c and spapr_caps.c.
 */
export interface MachineCheckOutcome {
  /** KVM of the host, by its kernel. */
  readonly host: string;
  readonly qemu: string;
  /** What the guest did at boot. */
  readonly guest: string;
  readonly outcome: string;
}

export const MACHINE_CHECK_OUTCOMES: readonly MachineCheckOutcome[] = [
  {
    host: "before 4.13",
    qemu: "before 5.0",
    guest: "any",
    outcome:
      "KVM delivers vector 0x200 without an error log: a UE is fatal to the guest's kernel; SLB and TLB errors are flushed by KVM",
  },
  {
    host: "before 4.13",
    qemu: "5.0 and later, cap-fwnmi=on",
    guest: "never runs",
    outcome:
      'QEMU refuses to start: "Firmware Assisted Non-Maskable Interrupts(FWNMI) not supported by KVM."; cap-fwnmi=off cures it',
  },
  {
    host: "4.13 and later",
    qemu: "before 5.0",
    guest: "any",
    outcome: "the capability is not enabled: vector 0x200 without an error log, as with an older host",
  },
  {
    host: "4.13 and later",
    qemu: "5.0 and later, machine up to pseries-4.2 or cap-fwnmi=off",
    guest: "any",
    outcome: "vector 0x200 without an error log",
  },
  {
    host: "4.13 and later",
    qemu: "5.0 and later, cap-fwnmi=on",
    guest: "has not called ibm,nmi-register",
    outcome: "vector 0x200 without an error log, until it does",
  },
  {
    host: "4.13 and later",
    qemu: "5.0 and later, cap-fwnmi=on",
    guest: "called ibm,nmi-register; error in user mode",
    outcome: "RTAS log; not recovered: the process is killed (SIGBUS, code 4) and the guest lives",
  },
  {
    host: "4.13 and later",
    qemu: "5.0 and later, cap-fwnmi=on",
    guest: "called ibm,nmi-register; error in its kernel",
    outcome:
      'RTAS log; recovered: logged alone; not recovered: "Oops: Machine check", and a panic with panic_on_oops; silent where an exception table covers the access',
  },
  {
    host: "4.13 and later",
    qemu: "5.0 and later, cap-fwnmi=on",
    guest: "still handles an earlier one (no ibm,nmi-interlock yet)",
    outcome:
      'QEMU: "FWNMI: Unable to deliver machine check to guest: nested machine check.", GUEST_PANICKED; a warning where it was recovered',
  },
  {
    host: "exits without the capability (patches of 2015)",
    qemu: "before 5.0",
    guest: "any",
    outcome: 'QEMU stops the VM: "KVM: unknown exit reason 16", run state internal-error',
  },
];
