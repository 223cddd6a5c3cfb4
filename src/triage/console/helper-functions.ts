/** Words of a text. */
const names = (text: string): string[] => text.trim().split(/\s+/);

/**
 * Functions that a stack trace begins with whatever failed: those that print the report, those that checked, those that
 * copy or set memory for others, those that wait or take locks for others, and entry code. Linux's unless said otherwise.
 */
export const HELPERS: ReadonlySet<string> = new Set([
  // lib/dump_stack.c, kernel/panic.c, arch/*/kernel/{dumpstack,traps,stacktrace}.c
  ...names(`
    dump_stack dump_stack_lvl dump_stack_print_info show_stack show_regs dump_backtrace unwind_backtrace
    walk_stackframe show_trace_log_lvl panic vpanic nmi_panic oops_end die die_kernel_fault __die
    oops_exit oops_enter die_addr __die_body no_context panic_bad_stack handle_bad_stack __bad_stack
    handle_stack_overflow bad_area_nosemaphore bad_area __bad_area_nosemaphore page_fault_oops
    kernelmode_fixup_or_oops do_error_trap do_trap do_invalid_op exc_invalid_op asm_exc_invalid_op
    handle_bug fixup_bug report_bug invalid_op exc_page_fault asm_exc_page_fault page_fault
    async_page_fault do_page_fault __do_page_fault do_user_addr_fault do_kern_addr_fault
    exc_general_protection asm_exc_general_protection general_protection do_general_protection
    exc_double_fault asm_exc_double_fault double_fault do_double_fault exc_divide_error
    asm_exc_divide_error divide_error do_divide_error exc_int3 asm_exc_int3 error_code common_exception
    do_mem_abort do_translation_fault do_DataAbort do_PrefetchAbort __dabt_svc __pabt_svc el1_abort
    el1h_64_sync_handler el1h_64_sync el1_sync_handler el1_sync el1_dbg el1_da bug_handler brk_handler
    do_debug_exception call_break_hook do_undefinstr __und_svc do_kernel_fault __do_kernel_fault
    arm64_serror_panic do_serror handle_exception do_trap_break do_trap_load_fault handle_page_fault
    ret_from_exception die_kernel_fault
  `),
  // kernel/panic.c: __warn() and what calls it
  ...names(`
    __warn warn_slowpath_null warn_slowpath_fmt warn_slowpath_common __warn_printk
    warn_slowpath_fmt_taint check_panic_on_warn refcount_warn_saturate debug_print_object refcount_inc
    refcount_add refcount_dec refcount_inc_checked refcount_add_checked refcount_sub_and_test
    refcount_sub_and_test_checked refcount_dec_and_test refcount_dec_checked refcount_error_report
    debug_object_assert_init debug_check_no_obj_freed debug_object_activate __debug_check_no_obj_freed
    debug_object_init debug_object_free __debug_object_init kref_put
  `),
  // mm/kasan, mm/kmsan, mm/kfence, kernel/kcsan, lib/ubsan.c
  ...names(`
    print_address_description print_report kasan_report kasan_report_error end_report kasan_object_err
    kasan_report_invalid_free kasan_report_double_free kasan_check_range check_memory_region
    check_memory_region_inline memory_is_poisoned kasan_check_read kasan_check_write
    instrument_atomic_read instrument_atomic_write kcsan_report_known_origin
    instrument_atomic_read_write kcsan_setup_watchpoint kfence_report_error kmsan_report
    kmsan_internal_check_memory kmsan_warning ubsan_epilogue handle_overflow val_to_string
    kasan_save_stack kasan_set_track kasan_save_track kasan_slab_free kasan_atomics_report
  `),
  // include/linux, lib: what is called for others
  ...names(`
    rep_stos_alternative rep_movs_alternative __arch_copy_to_user __arch_copy_from_user
    __arch_clear_user clear_user clear_user_rep_good clear_page_erms clear_page_rep memcpy memset
    memmove memcmp memchr strlen strnlen strcmp strncmp strcpy strncpy strlcpy strscpy strchr strstr
    string vsnprintf snprintf sprintf vscnprintf kstrdup memdup_user kmemdup crc32c memcpy_erms
    memcpy_orig memset_erms memset_orig memcpy_fromio clear_page copy_page copy_user_generic_string
    string_nocheck copy_user_enhanced_fast_string copy_user_generic_unrolled fault_in_readable
    _copy_from_iter _copy_to_iter copyin copyout _copy_from_user _copy_to_user copy_from_user
    copy_to_user usercopy_abort check_heap_object check_object_size fortify_panic skb_panic
    skb_over_panic skb_under_panic skb_put skb_push skb_pull list_add list_del list_del_init list_move
    list_add_tail rb_erase rb_insert_color atomic_read atomic_inc atomic_dec_and_test atomic_set
    test_bit set_bit clear_bit constant_test_bit arch_atomic_read variable_test_bit kfree kfree_const
    kvfree vfree kmem_cache_free kmem_cache_free_bulk kmalloc lock_sock lock_sock_nested release_sock
    kmem_cache_alloc kmem_cache_alloc_trace kmem_cache_alloc_node slab_post_alloc_hook slab_alloc
    slab_alloc_node slab_free slab_err object_err check_object on_freelist free_debug_processing
    alloc_debug_processing print_trailer check_bytes_and_report kzalloc bad_page check_slab
    free_pages_prepare free_unref_page __free_pages get_page_from_freelist free_to_partial_list
    get_partial get_partial_node get_any_partial new_slab do_slab_free allocate_slab put_cpu_partial
    flush_cpu_slab slab_free_hook cache_from_obj warn_free_bad_obj kmem_cache_create
    kmem_cache_create_usercopy kmem_cache_destroy kfree_sensitive kzfree rmqueue rmqueue_bulk
    rmqueue_pcplist post_alloc_hook prep_new_page check_new_pages alloc_pages alloc_pages_mpol
    alloc_pages_node alloc_pages_current alloc_pages_vma get_free_pages __get_free_pages get_zeroed_page
    alloc_pages_exact free_pages put_page free_pages_exact free_one_page free_pcppages_bulk
    free_unref_page_commit folio_put free_frozen_pages free_unref_folios free_tail_page_prepare
    kmalloc_order kmalloc_large kmalloc_order_trace kmalloc_large_node kmalloc_node kmalloc_trace
    kvmalloc krealloc kvmalloc_node vmalloc vzalloc vfree_atomic vunmap remove_vm_area
  `),
  // lib/kobject.c, lib/kref.c, fs/proc/generic.c: what is called for others
  ...names(`
    kobject_get kobject_put kobject_init kobject_add kobject_add_internal sysfs_warn_dup
    sysfs_create_dir_ns sysfs_create_link sysfs_do_create_link sysfs_do_create_link_sd
    sysfs_add_file_mode_ns sysfs_create_file_ns internal_create_group kobject_add_varg
    kobject_init_and_add kobject_create_and_add kref_get proc_register proc_create proc_create_data
    proc_mkdir proc_mkdir_data _proc_mkdir print_unreferenced kmemleak_alloc kmemleak_alloc_recursive
    ida_alloc_range ida_free
  `),
  // kernel/sched, kernel/locking: waiting and locking for others
  ...names(`
    schedule schedule_timeout schedule_timeout_uninterruptible schedule_preempt_disabled
    schedule_hrtimeout_range schedule_debug io_schedule io_schedule_timeout context_switch
    preempt_schedule preempt_schedule_common preempt_schedule_irq preempt_schedule_notrace
    wait_for_completion wait_for_completion_timeout wait_for_completion_io do_wait_for_common
    wait_for_common __wait_for_common bit_wait bit_wait_io out_of_line_wait_on_bit wait_on_page_bit
    wait_on_page_bit_common folio_wait_bit folio_wait_bit_common __wait_on_bit mutex_lock
    mutex_lock_nested mutex_lock_interruptible mutex_lock_killable mutex_trylock mutex_lock_io
    mutex_lock_io_nested mutex_unlock mutex_spin_on_owner mutex_optimistic_spin down_read down_write
    down_read_killable down_write_killable down_read_nested down down_write_nested up_read up_write
    rwsem_down_read_slowpath rwsem_down_write_slowpath percpu_down_read percpu_down_write
    synchronize_rcu synchronize_rcu_expedited synchronize_sched native_queued_spin_lock_slowpath
    queued_spin_lock_slowpath do_raw_spin_lock do_raw_spin_unlock pv_queued_spin_lock_slowpath
    queued_read_lock_slowpath queued_write_lock_slowpath spin_lock spin_lock_irqsave
    spin_unlock_irqrestore spin_lock_bh spin_bug spin_dump lock_acquire lock_acquired lock_release
    validate_chain mark_lock register_lock_class check_noncircular print_circular_bug print_deadlock_bug
    print_usage_bug valid_state lockdep_rcu_suspicious print_lock_invalid_wait_context
    check_wait_context check_prev_add check_prevs_add lockdep_init_map lockdep_init_map_type
    lockdep_hardirqs_on trace_hardirqs_on assign_lock_key look_up_lock_class print_unlock_imbalance_bug
    check_deadlock debug_check_no_locks_freed check_preemption_disabled debug_smp_processor_id
    might_fault might_sleep cond_resched preempt_count_add preempt_count_sub rcu_lock_acquire
    rcu_read_lock rcu_read_unlock finish_task_switch kthread_stop flush_work flush_workqueue
    drain_workqueue drain_all_pages
  `),
  // kernel/time/{timer,hrtimer}.c, kernel/workqueue.c: what takes a lock, or ends something, for others
  ...names(`
    init_timer_key __timer_delete_sync timer_delete_sync del_timer_sync timer_delete del_timer
    try_to_del_timer_sync __try_to_del_timer_sync timer_shutdown_sync mod_timer __timer_delete
    __mod_timer add_timer hrtimer_init hrtimer_cancel hrtimer_try_to_cancel __flush_work
    __cancel_work_sync __cancel_work_timer cancel_work_sync cancel_delayed_work_sync
    rcu_note_context_switch
  `),
  // mm/usercopy.c, mm/slub.c; arch/x86/kernel/cpu/common.c
  ...names("usercopy_abort __check_heap_object check_heap_object __check_object_size native_write_cr4"),
  // kernel/smp.c, fs/proc/generic.c, lib/kobject.c, drivers/base/core.c
  ...names(`
    __csd_lock_wait csd_lock_wait csd_lock_wait_toolong remove_proc_entry remove_proc_subtree
    kobject_init device_initialize device_register
  `),
  // lib/kunit/try-catch.c
  ...names("kunit_try_run_case kunit_generic_run_threadfn_adapter kunit_try_catch_run"),
  // lib/nmi_backtrace.c, kernel/watchdog.c, kernel/rcu: how a CPU that is stuck is shown
  ...names(`
    nmi_cpu_backtrace nmi_trigger_cpumask_backtrace arch_trigger_cpumask_backtrace rcu_check_callbacks
    trigger_single_cpu_backtrace trigger_all_cpu_backtrace trigger_cpumask_backtrace watchdog
    rcu_dump_cpu_stacks print_cpu_stall print_other_cpu_stall check_cpu_stall rcu_pending
    rcu_sched_clock_irq update_process_times tick_sched_handle tick_sched_timer tick_nohz_handler
    hrtimer_interrupt local_apic_timer_interrupt smp_apic_timer_interrupt apic_timer_interrupt
    sysvec_apic_timer_interrupt asm_sysvec_apic_timer_interrupt asm_call_on_stack nmi_handle
    asm_call_irq_on_stack run_on_irqstack_cond watchdog_timer_fn watchdog_overflow_callback
    nmi_cpu_backtrace_handler default_do_nmi do_nmi exc_nmi end_repeat_nmi nmi asm_exc_nmi
    unknown_nmi_error irq_exit irq_exit_rcu exiting_irq invoke_softirq handle_softirqs run_local_timers
    check_hung_uninterruptible_tasks sched_show_task show_state_filter ipi_cpu_backtrace do_handle_IPI
    handle_percpu_devid_irq gic_handle_irq dump_cpu_task arch_timer_handler_virt
    generic_handle_domain_irq handle_domain_irq el1_interrupt el1_irq el1h_64_irq_handler el1h_64_irq
    call_on_irq_stack do_interrupt_handler timer_interrupt decrementer_common_virt decrementer_common
    exc_virt_0x4900_decrementer csd_lock_wait smp_call_function_many smp_call_function_many_cond
    smp_call_function_single on_each_cpu on_each_cpu_cond_mask generic_exec_single kvm_wait pv_wait
    pv_kick
  `),
  // kernel/time, arch/x86/{kernel/tsc.c,lib/delay.c}: what a loop that waits calls
  ...names(`
    ktime_get ktime_get_ts64 ktime_get_real_ts64 ktime_get_raw ktime_get_coarse_ts64 read_tsc
    native_read_tsc rdtsc_ordered read_hpet acpi_pm_read kvm_clock_get_cycles pvclock_clocksource_read
    sched_clock sched_clock_cpu local_clock native_sched_clock delay_tsc delay_loop delay_halt udelay
    touch_softlockup_watchdog rep_nop cpu_relax __delay __udelay __ndelay __const_udelay
    arch_counter_get_cntvct get_cycles msleep msleep_interruptible usleep_range usleep_range_state
    schedule_hrtimeout ssleep
  `),
  // mm/oom_kill.c
  ...names("dump_header oom_kill_process out_of_memory warn_alloc warn_alloc_failed"),
  // kernel/sched/core.c, kernel/printk: debug checks and printing
  ...names(`
    ___might_sleep __might_sleep __might_resched __schedule_bug schedule_bug printk _printk vprintk
    vprintk_emit vprintk_default console_unlock console_flush_all serial8250_console_write
    wait_for_xmitr io_serial_in io_serial_out univ8250_console_write serial8250_console_putchar
    uart_console_write call_console_drivers arch_local_irq_restore arch_local_irq_enable
  `),
  // FreeBSD, NetBSD, OpenBSD: how they print a panic and enter a trap
  ...names(`
    kdb_backtrace db_trace_self_wrapper db_trace_self kdb_enter trap_fatal trap_pfault trap calltrap
    alltraps db_panic Xalltraps panic_trap witness_checkorder witness_debugger db_enter kerntrap
    kpageflttrap alltraps_kern_meltdown alltraps_kern Xtrap splassert_fail cpu_Debugger Debugger
    snprintf_panic kern_assert __assert vcprintf kprintf dopanic
  `),
]);

/** Beginnings of the names of families of such functions. */
export const HELPER_STARTS: readonly string[] = [
  ...names(`
    kasan_ __asan_ __kasan_ __hwasan_ hwasan_ __tsan_ __msan_ __ubsan_ kmsan_ kcsan_ __list_ __refcount_
    __mutex_ _raw_spin_ __raw_spin_ _raw_read_ _raw_write_ __raw_read_ __raw_write_ __schedule __lock_
    __kmalloc __kmem_cache_ ___slab_ __slab_ ___cache_ __hrtimer_ hrtimer_run __sysvec_ asm_sysvec_
    sysvec_ __irq_exit __do_softirq rwsem_ __down_ __up_ __rwsem_ call_rwsem_ __wait_ kfence_ __kfence
    __dump_ lockdep_ __might_ __rcu_read_ print_bad_ __memcpy __memset __memmove __memcmp __pi_mem
    __pi_str __fortify_ __warn_ __kunit bug_at_ __bug_ ubsan_ __pv_queued rt_mutex_ __rt_mutex rtlock_
    stop_machine __copy_ __x86_indirect_thunk entry_SYSCALL asm_exc_ __netbsd_ __sanitizer_ __free_pages
    __free_frozen __vmalloc __vunmap __rmqueue __put_page ___kmalloc __alloc_pages __nmi_ kthread_queue_
    uvm_fault_
  `),
];
