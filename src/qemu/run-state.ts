/** What CPUState says of a vCPU beside its registers. */
export interface RunState {
  readonly halted: boolean;
  /**
   * CPUState.vcpu_dirty: QEMU fetched the registers from KVM and has not given them back, so its copy is current.
   * Means nothing under TCG, where QEMU's copy is the only one.
   */
  readonly synchronised: boolean;
  /** cpu_index is unassigned: the guest has not had this vCPU since it was unplugged. */
  readonly unplugged: boolean;
}

/** cluster_index of a machine without clusters: UNASSIGNED_CLUSTER_INDEX. */
const NO_CLUSTER = 0xffff_ffff;
/** UNASSIGNED_CPU_INDEX. */
const UNASSIGNED = 0xffff_ffff;
/** CPUState has a device's head in front (hundreds of bytes) and ends some dozen words behind cpu_index. */
const SEARCH_FROM = 256;
const TAIL = 48;
/** Up to 7.1 tb_jmp_cache[4096] lies in front of cpu_index. */
const JUMP_CACHE = 32_768;

/** Where the members around cpu_index and cluster_index are, relative to cpu_index. */
interface Form {
  readonly halted: number;
  readonly exceptionIndex: number;
  /** Places vcpu_dirty had while this form lasted; the others are padding or pointers that are null under KVM. */
  readonly dirty: readonly number[];
}

/** Up to 6.0: {halted, can_do_io, exception_index, vcpu_dirty}. */
const OLD_FORM: Form = { halted: 8, exceptionIndex: 16, dirty: [20] };
/** 6.1 to 8.1: {tcg_cflags, halted, can_do_io, exception_index, vcpu_dirty (behind AccelCPUState *accel in 8.1)}. */
const MIDDLE_FORM: Form = { halted: 12, exceptionIndex: 20, dirty: [24, 32] };
/** Since 8.2 without can_do_io; vcpu_dirty behind accel, then behind kvm_fd (10.0), then behind exception_index (11.1). */
const NEW_FORM: Form = { halted: 12, exceptionIndex: 16, dirty: [32, -20, 20] };

/**
 * Finds cpu_index in vCPU objects of one process by its shape (QEMU `include/hw/core/cpu.h`): the index each vCPU is
 * known by, no cluster, a boolean, and an exception index of "none" or an internal one.
 * @param cpus objects by index; @param limit where CPUX86State begins in them
 * @returns run states in the order given; `undefined` when no or more than one place fits
 */
export function findRunStates(
  cpus: readonly { readonly index: number; readonly view: DataView }[],
  limit: number,
): RunState[] | undefined {
  const places: { at: number; form: Form }[] = [];
  for (let at = SEARCH_FROM; at + TAIL <= limit; at += 4) {
    const forms = at > JUMP_CACHE ? [MIDDLE_FORM, OLD_FORM] : [MIDDLE_FORM, NEW_FORM];
    // Most places fail at the first vCPU's first word.
    const form = forms.find(
      (candidate) =>
        cpus.every(({ view, index }) => fits(view, at, index, candidate)) &&
        cpus.some(({ view, index }) => view.getUint32(at, true) === index),
    );
    if (form !== undefined) places.push({ at, form });
  }
  const place = places[0];
  if (place === undefined || places.length > 1) return undefined;
  return cpus.map(({ view }) => ({
    halted: view.getUint32(place.at + place.form.halted, true) === 1,
    synchronised: isDirty(view, place.at, place.form),
    unplugged: view.getUint32(place.at, true) === UNASSIGNED,
  }));
}

function fits(view: DataView, at: number, index: number, form: Form): boolean {
  if (view.getUint32(at + 4, true) !== NO_CLUSTER) return false;
  const own = view.getUint32(at, true);
  if (own !== index && own !== UNASSIGNED) return false;
  if (view.getUint32(at + form.halted, true) > 1) return false;
  const exception = view.getUint32(at + form.exceptionIndex, true);
  // EXCP_INTERRUPT … EXCP_ATOMIC are 0x10000 … 0x10005 (`include/exec/cpu-common.h`).
  return exception === 0xffff_ffff || (exception >= 0x1_0000 && exception <= 0x1_000f);
}

/** A bool and its padding: only a word that is exactly 1, or starts a run of bools with 1, counts. */
const isDirty = (view: DataView, at: number, form: Form): boolean =>
  form.dirty.some(
    (offset) => (view.getUint32(at + offset, true) & 0xfefe_fefe) === 0 && view.getUint8(at + offset) === 1,
  );
