/** Who says that it failed, by the class of the finding that decided; where a class is not here, the rule's own words. */
export const HOST_WHY: Readonly<Record<string, string>> = {
  "start-failed": "QEMU says that it could not start, and no source has a guest that ran.",
  "hypervisor-crash": "The hypervisor says itself that it crashed, and the guest with it.",
};
export const HARDWARE_WHY: Readonly<Record<string, string>> = {
  "memory-failure": "QEMU says that a memory error was fatal to the guest: its kernel had no part in it.",
};
export const HANG_WHY: Readonly<Record<string, string>> = {
  "boot-failure": "The machine found nothing that it could start, and nothing of it is heard afterwards.",
  "init-failure":
    "The first process failed, nothing else runs, and nothing of that boot says that it ever did again.",
  "emergency-mode":
    "Start-up ended at a shell that waits for somebody, and nothing of that boot comes after it.",
};
export const DEATH_WHY: Readonly<Record<string, string>> = {
  "firmware-crash": "The guest's firmware says itself that it died: no kernel was running.",
  "firmware-assert": "A check of the guest's firmware failed, and it stopped: no kernel was running.",
  "domain-crash": "The hypervisor says that it stopped the guest for what the guest did.",
};
