import { withExamples } from "../examples.ts";
import type { AddCommand } from "../terminal.ts";
import { triageConsoleCommand } from "./triage-console.ts";
import { triageDumpCommand } from "./triage-dump.ts";
import { triageMceCommand } from "./triage-mce.ts";
import { triagePstoreCommand } from "./triage-pstore.ts";
import { triageQmpCommand } from "./triage-qmp.ts";
import { triageRtasCommand } from "./triage-rtas.ts";
import { withTriageVms } from "./triage-vms.ts";

const EXAMPLES = [
  "guestcore triage /var/log/vms                   every VM below, one verdict each",
  "guestcore triage serial.log qmp.jsonl           what both say of one VM",
  "guestcore triage artefacts --junit vm.xml --html vm.html",
  'guestcore triage artefacts --markdown "$GITHUB_STEP_SUMMARY" --force',
];

/** A new detector is one file and one line here. */
const DETECTORS: readonly AddCommand[] = [
  triageConsoleCommand,
  triageQmpCommand,
  triagePstoreCommand,
  triageDumpCommand,
  triageRtasCommand,
  triageMceCommand,
];

export const triageCommand: AddCommand = (program, terminal) => {
  const command = withTriageVms(withExamples(program.command("triage"), EXAMPLES), terminal)
    .summary("what happened to a guest, and which side failed")
    .description(
      "Reads what crashed VMs left behind, consoles, QMP logs, pstore, dumps, and says of each VM what happened and which side failed. Exits with 1 when that is at or above --fail-on. A detector's name as the first word runs that detector alone; a directory of such a name is ./NAME.",
    )
    // Options behind the name of a detector are its own.
    .enablePositionalOptions();
  for (const add of DETECTORS) add(command, terminal);
  return command;
};
