/**
 * The threat: a variable that makes node, the C library or OpenSSL load code or write files as root. By the time this
 * runs, such code could have run already; whoever can set root's environment is root. What this stops is the careless
 * admin: a helper that came up with a debugger's NODE_OPTIONS must not go on serving with it for months.
 */

/** Variables that change what code runs. SSL_CERT_FILE, NODE_EXTRA_CA_CERTS, NODE_V8_COVERAGE and the like do not. */
const DANGEROUS = [
  "NODE_OPTIONS NODE_PATH NODE_REPL_EXTERNAL_MODULE NODE_ICU_DATA NODE_REDIRECT_WARNINGS NODE_COMPILE_CACHE",
  "LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT LD_DEBUG_OUTPUT GLIBC_TUNABLES GCONV_PATH LOCPATH NLSPATH MALLOC_TRACE",
  "OPENSSL_CONF OPENSSL_MODULES OPENSSL_ENGINES",
  "UV_USE_IO_URING", // on Node 20 its threads stay at uid 0 after the others have left it (CVE-2024-22017)
].flatMap((names) => names.split(" "));

/** Names the variables that are set to anything but the empty string. */
export function dangerous_variables(environment: NodeJS.ProcessEnv): string[] {
  return DANGEROUS.filter((name) => (environment[name] ?? "") !== "");
}
