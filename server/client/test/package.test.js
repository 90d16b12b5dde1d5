/** The package as an app gets it: packed, installed in an empty folder, imported, and used with types. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** What an app would write. A call that is not awaited, and a state that there is not, are errors. */
const APP = `
import { connect, VoicematchError, type Call, type Room } from 'voicematch';
import { Transcription } from 'voicematch/transcribe.js';
const vm = await connect('https://voice.example.org', { media: false, signal: AbortSignal.timeout(5000) });
const call: Call = await vm.find({ criteria: { interests: ['music'] } });
const room: Room = call;
for await (const { from, data } of room.messages()) await call.send([from.member.id, data]);
// @ts-expect-error
vm.find().send('hello');
// @ts-expect-error
if (vm.state === 'nonsense') throw new VoicematchError('closed');
new Transcription({ token: '' }).close();
`;

test('the package can be installed and imported, and has what it names', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'voicematch-package-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const run = (program, ...flags) => execFileSync(program, flags, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  const [{ filename }] = JSON.parse(run('npm', 'pack', '--json', '--silent', root));
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  run('npm', 'install', '--offline', '--no-audit', '--no-fund', `./${filename}`);
  run('node', '--input-type=module', '--eval', `
    import { connect, VoicematchError } from 'voicematch';
    import { Transcription } from 'voicematch/transcribe.js';
    const error = await connect('http://127.0.0.1:1', { media: false }).catch((error) => error);
    if (!(error instanceof VoicematchError) || error.code !== 'lost' || !Transcription) throw error;`);

  const installed = join(folder, 'node_modules/voicematch');
  for (const name of ['LICENSE-APACHE', 'LICENSE-MIT']) assert.equal(readFileSync(join(installed, name), 'utf8'), readFileSync(join(root, '../..', name), 'utf8'));
  for (const page of ['README.md', 'MOBILE.md']) {
    const text = readFileSync(join(installed, page), 'utf8');
    const links = [...text.matchAll(/\]\(([^)#]*)/g)].flatMap(([, link]) => (/^https?:/.test(link) ? [] : link));
    assert.ok(page === 'MOBILE.md' || links.length >= 3, `${links}`);
    for (const link of links) assert.ok(existsSync(join(installed, dirname(page), link)), `${page} names ${link}`);
  }

  writeFileSync(join(folder, 'app.ts'), APP);
  run(join(root, 'node_modules/.bin/tsc'), '--noEmit', '--strict', '--target', 'es2023', '--lib', 'es2023,dom,dom.asynciterable', '--module', 'nodenext', 'app.ts');
});
