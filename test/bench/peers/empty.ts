/** As good as nothing: what is imported by start-empty.ts. */
export const EMPTY = "";
