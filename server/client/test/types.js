/** What the types of the wire say of messages. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const folder = fileURLToPath(new URL('.', import.meta.url));
const options = { noEmit: true, strict: true, target: ts.ScriptTarget.ES2022, lib: ['lib.es2022.d.ts'], types: [], module: ts.ModuleKind.NodeNext };
/** What has been read once is the same for all messages. @type {Map<string, ts.SourceFile | undefined>} */
const read = new Map();

/** What tsc says of these messages. @param {string} type @param {string[]} messages @param {string} [file] */
export function complaints(type, messages, file = 'wire') {
  const name = join(folder, 'messages.ts');
  const lines = messages.map((text, i) => `export const message${i}: ${type} = ${text.trim()};`);
  const text = `import type { ${type} } from '../client/${file}.js';\n${lines.join('\n')}\n`;
  const host = ts.createCompilerHost(options);
  const { fileExists, getSourceFile } = host;
  host.fileExists = (path) => path === name || fileExists(path);
  host.getSourceFile = (path, language) => {
    if (path === name) return ts.createSourceFile(path, text, language);
    if (!read.has(path)) read.set(path, getSourceFile(path, language));
    return read.get(path);
  };
  return ts.formatDiagnostics(ts.getPreEmitDiagnostics(ts.createProgram([name], options, host)), host);
}
