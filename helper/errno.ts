/** Node's name for a failed system call ("ENOENT"), or undefined if something else was thrown. */
export function errno_of(error: unknown): string | undefined {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return typeof code === "string" ? code : undefined;
}
