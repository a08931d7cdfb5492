/** `lowport exec` as the command's script starts it: without the other commands, which the program would wait for. */
import { run_exec } from "./launch.js";

async function main(): Promise<void> {
  process.exitCode = await run_exec(process.argv.slice(3));
}

void main();
