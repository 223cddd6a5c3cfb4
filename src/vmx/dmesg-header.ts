/** What lines in front of a dump say of it. */
export interface Header {
  readonly label: string | undefined;
  readonly cpu: number | undefined;
  readonly cause: string | undefined;
  readonly line: number;
  /** Xen prints the VM-instruction error apart from the dump. */
  readonly instructionError: bigint | undefined;
}

const KVM_HEADER =
  /(?:VMCS|VMCB) \(?(?:0x)?([0-9a-f]+|_*ptrval_*)\)?, last attempted (?:VM-entry|VMRUN) on CPU (\d{1,9})/;
const XEN_DOMAIN = />>> Domain (\d{1,9}) <<</;
const XEN_VCPU = /(?:^|\s)VCPU (\d{1,9})\s*$/;
const XEN_FAILURE = /(d\d+v\d+):? vmentry failure \(reason 0x[0-9a-f]+\):.*/;
const XEN_ERROR = /VM(?:LAUNCH|RESUME) error: (?:0x)?([0-9a-f]{1,8})\b/;
const KVM_CAUSE = /(?:vmx|svm): unexpected (?:exit reason|vmexit|exit code).*/;

/** The domain whose vCPUs Xen dumps next. */
export const domainOf = (line: string): string | undefined => XEN_DOMAIN.exec(line)?.[1];

export const noHeader = (line: number): Header => ({
  label: undefined,
  cpu: undefined,
  cause: undefined,
  instructionError: undefined,
  line,
});

/**
 * What a line says of the dump that follows.
 * @param domain of Xen, whose vCPUs the lines that follow are about
 */
export function headerOf(line: string, domain: string | undefined): Partial<Header> | undefined {
  const kvm = KVM_HEADER.exec(line);
  if (kvm !== null) return { label: kvm[1], cpu: Number(kvm[2]) };
  const vcpu = XEN_VCPU.exec(line)?.[1];
  if (vcpu !== undefined && domain !== undefined) return { label: `d${domain}v${vcpu}` };
  const failure = XEN_FAILURE.exec(line);
  if (failure !== null) return { label: failure[1], cause: failure[0] };
  const error = XEN_ERROR.exec(line);
  if (error !== null) return { cause: error[0], instructionError: BigInt(`0x${error[1]}`) };
  const cause = KVM_CAUSE.exec(line)?.[0];
  return cause === undefined ? undefined : { cause };
}
