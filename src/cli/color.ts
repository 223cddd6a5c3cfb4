export const COLOR_MODES = ["auto", "always", "never"] as const;
export type ColorMode = (typeof COLOR_MODES)[number];

type Environment = Readonly<Record<string, string | undefined>>;

const isSet = (value: string | undefined): boolean => value !== undefined && value !== "";
const isForced = (value: string | undefined): boolean => isSet(value) && value !== "0";

/** Whether to colour a stream: --color, then NO_COLOR (no-color.org), then the variables that force it, then the terminal. */
export function wantsColor(mode: ColorMode, isTerminal: boolean, env: Environment): boolean {
  if (mode !== "auto") return mode === "always";
  if (isSet(env.NO_COLOR)) return false;
  if (isForced(env.FORCE_COLOR) || isForced(env.CLICOLOR_FORCE)) return true;
  return isTerminal && env.TERM !== "dumb";
}

/** SGR parameters (ECMA-48 §8.3.117). Colour never carries a meaning that the words do not. */
const STYLES = { error: "1;31", warning: "1;33", hint: "36" } as const;

export const paint = (color: boolean, style: keyof typeof STYLES, text: string): string =>
  color ? `\x1b[${STYLES[style]}m${text}\x1b[0m` : text;
