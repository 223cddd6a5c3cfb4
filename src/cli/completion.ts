import type { Command, Option } from "commander";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

/** What a completion needs to know of a command, taken from commander's own model. */
interface CommandModel {
  readonly name: string;
  readonly summary: string;
  readonly options: readonly OptionModel[];
  /** Values of its first argument, where they are a closed list. */
  readonly choices: readonly string[];
}

interface OptionModel {
  readonly flags: readonly string[];
  readonly description: string;
  readonly takesValue: boolean;
  readonly choices: readonly string[];
}

/** A script that completes commands, options and the values of closed lists; everything else as file names. */
export function completionScript(shell: Shell, program: Command): string {
  const visible = program.createHelp().visibleCommands(program);
  const commands = visible.filter((command) => command.name() !== "help").map(modelOf);
  if (shell === "bash") return bashScript(commands);
  return shell === "zsh" ? zshScript(commands) : fishScript(commands);
}

const modelOf = (command: Command): CommandModel => ({
  name: command.name(),
  summary: command.summary(),
  options: command.createHelp().visibleOptions(command).map(optionModel),
  choices: command.registeredArguments[0]?.argChoices ?? [],
});

const optionModel = (option: Option): OptionModel => ({
  flags: [option.short, option.long].filter((flag) => flag !== undefined && flag !== null),
  description: option.description,
  takesValue: option.required || option.optional,
  choices: option.argChoices ?? [],
});

function bashScript(commands: readonly CommandModel[]): string {
  const cases = commands.map(({ name, options, choices }) => {
    const values = options
      .filter((option) => option.choices.length > 0)
      .map((option) => `        ${option.flags.join("|")}) words="${option.choices.join(" ")}";;\n`);
    const free = options.filter((option) => option.takesValue && option.choices.length === 0);
    const files = free.length === 0 ? "" : `        ${free.flatMap(({ flags }) => flags).join("|")}) ;;\n`;
    const flags = options.flatMap((option) => option.flags).join(" ");
    const otherwise = choices.length === 0 ? "" : ` || words="${choices.join(" ")}"`;
    return `      ${name}) case "$previous" in
${values.join("")}${files}        *) [[ "$current" == -* ]] && words="${flags}"${otherwise};;
      esac;;
`;
  });
  return `# bash completion for guestcore
_guestcore() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" words=""
  # bash takes --option=value for three words
  if [[ "$current" == "=" ]]; then
    current=""
  elif [[ "$previous" == "=" ]]; then
    previous="\${COMP_WORDS[COMP_CWORD-2]}"
  fi
  if (( COMP_CWORD == 1 )); then
    words="${commands.map(({ name }) => name).join(" ")} --help --version"
  else
    case "\${COMP_WORDS[1]}" in
${cases.join("")}    esac
  fi
  if [[ -n "$words" ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  else
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}
complete -F _guestcore guestcore
`;
}

function zshScript(commands: readonly CommandModel[]): string {
  const list = commands.map(({ name, summary }) => `    ${quote(`${name}:${summary}`)}`).join("\n");
  const cases = commands.map(({ name, options, choices }) => {
    const specs = options.map((option) => `      ${zshSpec(option)} \\\n`).join("");
    const rest = choices.length === 0 ? "'*:file:_files'" : quote(`1:value:(${choices.join(" ")})`);
    return `    ${name}) _arguments \\\n${specs}      ${rest};;\n`;
  });
  return `#compdef guestcore
_guestcore() {
  local -a commands=(
${list}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command="$words[2]"
  shift words
  (( CURRENT-- ))
  case "$command" in
${cases.join("")}  esac
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
  const names = commands.map(({ name }) => name).join(" ");
  const lines = [
    "# fish completion for guestcore",
    ...commands.map(
      ({ name, summary }) =>
        `complete -c guestcore -f -n 'not __fish_seen_subcommand_from ${names}' -a ${name} -d ${quote(summary)}`,
    ),
  ];
  for (const { name, options, choices } of commands) {
    if (choices.length > 0) {
      lines.push(
        `complete -c guestcore -f -n '__fish_seen_subcommand_from ${name}' -a ${quote(choices.join(" "))}`,
      );
    }
    for (const { flags, description, takesValue, choices } of options) {
      const spelt = flags.map((flag) =>
        flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`,
      );
      const value = takesValue ? (choices.length > 0 ? ` -x -a ${quote(choices.join(" "))}` : " -r -F") : "";
      lines.push(
        `complete -c guestcore -n '__fish_seen_subcommand_from ${name}' ${spelt.join(" ")}${value} -d ${quote(description)}`,
      );
    }
  }
  return `${lines.join("\n")}\n`;
}

const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
