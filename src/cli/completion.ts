import type { Command, Option } from "commander";
import { isRunnable, visibleCommands } from "./subcommands.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

/** What a completion needs to know of a command, taken from commander's own model. */
interface CommandModel {
  readonly name: string;
  readonly summary: string;
  readonly options: readonly OptionModel[];
  /** Values of its first argument, where they are a closed list. */
  readonly choices: readonly string[];
  /** The commands it groups. */
  readonly commands: readonly CommandModel[];
  /** Whether a group takes file names too. */
  readonly runnable: boolean;
}

interface OptionModel {
  readonly flags: readonly string[];
  readonly description: string;
  readonly takesValue: boolean;
  readonly choices: readonly string[];
}

/** A script that completes commands, options and the values of closed lists; everything else as file names. */
export function completionScript(shell: Shell, program: Command): string {
  const commands = visibleCommands(program).map(modelOf);
  if (shell === "bash") return bashScript(commands);
  return shell === "zsh" ? zshScript(commands) : fishScript(commands);
}

const modelOf = (command: Command): CommandModel => ({
  name: command.name(),
  summary: command.summary(),
  options: command.createHelp().visibleOptions(command).map(optionModel),
  choices: command.registeredArguments[0]?.argChoices ?? [],
  commands: visibleCommands(command).map(modelOf),
  runnable: isRunnable(command),
});

const namesOf = (commands: readonly CommandModel[]): string => commands.map(({ name }) => name).join(" ");

const optionModel = (option: Option): OptionModel => ({
  flags: [option.short, option.long].filter((flag) => flag !== undefined && flag !== null),
  description: option.description,
  takesValue: option.required || option.optional,
  choices: option.argChoices ?? [],
});

/** What bash does with the words behind a command; `depth` is the command's own place among the words. */
function bashCase(command: CommandModel, depth: number): string {
  const { name, commands, runnable } = command;
  if (commands.length === 0) return bashLeaf(command, name);
  if (!runnable) {
    return `      ${name}) if (( COMP_CWORD == ${depth + 1} )); then
        words="${namesOf(commands)} --help"
      else
        case "\${COMP_WORDS[${depth + 1}]}" in
${commands.map((sub) => bashCase(sub, depth + 1)).join("")}        esac
      fi;;
`;
  }
  return `      ${name}) if (( COMP_CWORD == ${depth + 1} )) && [[ "$current" != -* ]]; then
        words="${namesOf(commands)}" files=1
      elif (( COMP_CWORD == ${depth + 1} )); then
        words="${flagsOf(command)}"
      else
        case "\${COMP_WORDS[${depth + 1}]}" in
${commands.map((sub) => bashCase(sub, depth + 1)).join("")}${bashLeaf(command, "*")}        esac
      fi;;
`;
}

const flagsOf = ({ options }: CommandModel): string => options.flatMap((option) => option.flags).join(" ");

/** The options of a command, and what the first argument may be. */
function bashLeaf(command: CommandModel, pattern: string): string {
  const { options, choices } = command;
  const values = options
    .filter((option) => option.choices.length > 0)
    .map((option) => `        ${option.flags.join("|")}) words="${option.choices.join(" ")}";;\n`);
  const free = options.filter((option) => option.takesValue && option.choices.length === 0);
  const files = free.length === 0 ? "" : `        ${free.flatMap(({ flags }) => flags).join("|")}) ;;\n`;
  const flags = flagsOf(command);
  const otherwise = choices.length === 0 ? "" : ` || words="${choices.join(" ")}"`;
  return `      ${pattern}) case "$previous" in
${values.join("")}${files}        *) [[ "$current" == -* ]] && words="${flags}"${otherwise};;
      esac;;
`;
}

function bashScript(commands: readonly CommandModel[]): string {
  return `# bash completion for guestcore
_guestcore() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" words="" files=""
  # bash takes --option=value for three words
  if [[ "$current" == "=" ]]; then
    current=""
  elif [[ "$previous" == "=" ]]; then
    previous="\${COMP_WORDS[COMP_CWORD-2]}"
  fi
  if (( COMP_CWORD == 1 )); then
    words="${namesOf(commands)} --help --version"
  else
    case "\${COMP_WORDS[1]}" in
${commands.map((command) => bashCase(command, 1)).join("")}    esac
  fi
  if [[ -n "$words" ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current"; [[ -z "$files" ]] || compgen -f -- "$current")
  else
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}
complete -F _guestcore guestcore
`;
}

const zshList = (commands: readonly CommandModel[]): string =>
  commands.map(({ name, summary }) => `    ${quote(`${name}:${summary}`)}`).join("\n");

/** What zsh does behind a command, whose name is then the first of the words. */
function zshCase(command: CommandModel): string {
  const { name, commands, runnable } = command;
  if (commands.length === 0) return zshLeaf(command, name);
  if (!runnable) {
    return `    ${name})
  commands=(
${zshList(commands)}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  command="$words[2]"
  shift words
  (( CURRENT-- ))
  case "$command" in
${commands.map(zshCase).join("")}  esac;;
`;
  }
  return `    ${name})
  commands=(
${zshList(commands)}
  )
  if (( CURRENT == 2 )) && [[ "$words[2]" != -* ]]; then
    _describe command commands
    _files
    return
  fi
  command="$words[2]"
  case "$command" in
    ${commands.map(({ name }) => name).join("|")}) shift words; (( CURRENT-- ));;
  esac
  case "$command" in
${commands.map(zshCase).join("")}${zshLeaf(command, "*")}  esac;;
`;
}

function zshLeaf({ options, choices }: CommandModel, pattern: string): string {
  const specs = options.map((option) => `      ${zshSpec(option)} \\\n`).join("");
  const rest = choices.length === 0 ? "'*:file:_files'" : quote(`1:value:(${choices.join(" ")})`);
  return `    ${pattern}) _arguments \\\n${specs}      ${rest};;\n`;
}

function zshScript(commands: readonly CommandModel[]): string {
  return `#compdef guestcore
_guestcore() {
  local -a commands=(
${zshList(commands)}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command="$words[2]"
  shift words
  (( CURRENT-- ))
  case "$command" in
${commands.map(zshCase).join("")}  esac
}
_guestcore "$@"
`;
}

function zshSpec({ flags, description, takesValue, choices }: OptionModel): string {
  const text = description.replace(/[[\]:]/g, " ");
  const value = takesValue ? `:value:${choices.length > 0 ? `(${choices.join(" ")})` : "_files"}` : "";
  const [first = "", second] = flags;
  const names = second === undefined ? first : `{${first},${second}}`;
  return second === undefined
    ? quote(`${first}[${text}]${value}`)
    : `${quote(`(${flags.join(" ")})`)}${names}${quote(`[${text}]${value}`)}`;
}

function fishScript(commands: readonly CommandModel[]): string {
  return `# fish completion for guestcore\n${fishLines(commands, []).join("\n")}\n`;
}

const seen = (names: string): string => `__fish_seen_subcommand_from ${names}`;

/**
 * @param path the commands that group these, outermost first
 * @param files whether a file may stand in their place
 */
function fishLines(commands: readonly CommandModel[], path: readonly string[], files = false): string[] {
  const within = path.map(seen);
  const unseen = [...within, `not ${seen(namesOf(commands))}`].join("; and ");
  const lines = commands.map(
    ({ name, summary }) =>
      `complete -c guestcore${files ? "" : " -f"} -n '${unseen}' -a ${name} -d ${quote(summary)}`,
  );
  for (const command of commands) {
    const groups = commands.filter((other) => other !== command && hasWithin(other, command.name));
    const apart = groups.length === 0 ? [] : [`not ${seen(namesOf(groups))}`];
    const condition = [...within, seen(command.name), ...apart].join("; and ");
    if (command.commands.length > 0) {
      lines.push(...fishLines(command.commands, [...path, command.name], command.runnable));
    }
    if (command.commands.length === 0) lines.push(...fishLeaf(command, condition));
    else if (command.runnable) {
      lines.push(...fishLeaf(command, `${condition}; and not ${seen(namesOf(command.commands))}`));
    }
  }
  return lines;
}

/** Whether a group has a command of that name at any depth. */
const hasWithin = ({ commands }: CommandModel, name: string): boolean =>
  commands.some((sub) => sub.name === name || hasWithin(sub, name));

function fishLeaf({ options, choices }: CommandModel, condition: string): string[] {
  const lines: string[] = [];
  if (choices.length > 0) {
    lines.push(`complete -c guestcore -f -n '${condition}' -a ${quote(choices.join(" "))}`);
  }
  for (const { flags, description, takesValue, choices } of options) {
    const spelt = flags.map((flag) =>
      flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`,
    );
    const value = takesValue ? (choices.length > 0 ? ` -x -a ${quote(choices.join(" "))}` : " -r -F") : "";
    lines.push(`complete -c guestcore -n '${condition}' ${spelt.join(" ")}${value} -d ${quote(description)}`);
  }
  return lines;
}

const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
