/** placeholder */
import { define } from "./command.js";
export const command = define({ summary: "", words: "", options: {}, about: "", examples: [], run: () => Promise.resolve(0) });
