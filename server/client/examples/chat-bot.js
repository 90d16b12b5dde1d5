// A partner that says back what it hears: node chat-bot.js http://127.0.0.1:8080
import { connect } from '../client.js';

const vm = await connect(process.argv[2] ?? 'http://127.0.0.1:8080', { media: false });
process.once('SIGINT', () => vm.close());
vm.addEventListener('closed', ({ detail }) => {
  console.log(`closed: ${detail.code}`);
  process.exit(detail.code === 'closed' ? 0 : 1);
});
for (;;) {
  const call = await vm.find();
  console.log('a partner is there');
  const heard = call.messages();
  await call.send('I am a program. Say something, and I say it back.');
  for await (const { data } of heard) await call.send(`You said: ${data}`);
  console.log(`the partner is gone: ${call.ended}`);
}
