// A partner that says back what it hears: node chat-bot.js http://127.0.0.1:8080
import { setTimeout } from 'node:timers/promises';
import { connect } from '../client.js';

const vm = await connect(process.argv[2] ?? 'http://127.0.0.1:8080', { media: false });
process.once('SIGINT', () => vm.close());
vm.addEventListener('closed', ({ detail }) => {
  console.log(`closed: ${detail.code}`);
  process.exit(detail.code === 'closed' ? 0 : 1);
});
for (;;) {
  try {
    const call = await vm.find();
    console.log('a partner is there');
    const heard = call.messages();
    // A partner may leave at any moment: then what is said to them fails, and `heard` ends.
    const say = (text) => call.send(text).catch((error) => console.log(`not said: ${error.code}`));
    await say('I am a program. Say something, and I say it back.');
    for await (const { data } of heard) await say(`You said: ${data}`);
    console.log(`the partner is gone: ${call.ended}`);
  } catch (error) {
    // The server makes no matches now, as when another one takes its place.
    console.log(`no partner: ${error.code}`);
    await setTimeout(1000);
  }
}
