/** Looks of the HTML report: light and dark, on screen and on paper. Colour never says anything alone. */
export const TRIAGE_CSS = `
:root { --ink: #1c1e21; --paper: #fff; --line: #d5d8dc; --soft: #f3f4f6; --bad: #b42318; --good: #1f7a3d; --warn: #8a5a00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e7e9; --paper: #15171a; --line: #3a3f45; --soft: #1f2327; --bad: #ff8a80; --good: #7bd694; --warn: #ffc46b; }
}
body { color: var(--ink); background: var(--paper); font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 2rem 0 .3rem; } h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
.title { font-size: 1.1rem; margin: .2rem 0 1rem; overflow-wrap: anywhere; }
.failure { color: var(--bad); font-weight: 600; margin: -.7rem 0 1rem; overflow-wrap: anywhere; }
.badge { border: 2px solid; border-radius: .3rem; padding: 0 .4rem; }
.bad, .panic, .oops { color: var(--bad); font-weight: 600; } .good { color: var(--good); } .hang, .warning { color: var(--warn); }
table { border-collapse: collapse; width: 100%; } th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem .25rem 0; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
td:first-child { white-space: nowrap; }
pre { background: var(--soft); border: 1px solid var(--line); overflow-x: auto; padding: .6rem; }
dl { display: grid; gap: .1rem 1rem; grid-template-columns: max-content 1fr; } dd { margin: 0; overflow-wrap: anywhere; }
.differ { color: var(--bad); } .note, footer { font-size: .85rem; opacity: .8; } footer { margin-top: 3rem; }
@media print { body { margin: 0; max-width: none; } pre { overflow: visible; white-space: pre-wrap; } section { break-after: page; } tr, pre { break-inside: avoid; } }
`;
