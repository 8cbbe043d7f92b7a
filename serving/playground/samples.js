// Small pictures to begin with, drawn here so that nothing need be shipped or fetched.

const SIDE = 320;

function canvasOf(background, draw) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext("2d");
  context.fillStyle = background;
  context.fillRect(0, 0, SIDE, SIDE);
  context.lineCap = context.lineJoin = "round";
  draw(context);
  return canvas;
}

function seven(context) {
  context.strokeStyle = "#fff";
  context.lineWidth = 30;
  context.stroke(new Path2D("M95 75 C140 82 190 80 228 72 C205 130 170 185 150 255"));
}

function daisy(context) {
  context.translate(SIDE / 2, SIDE / 2);
  for (let petal = 0; petal < 21; petal++) {
    context.save();
    context.rotate((petal * 2 * Math.PI) / 21);
    context.fillStyle = petal % 2 ? "#fdfdf8" : "#e9e9e2";
    context.beginPath();
    context.ellipse(0, -92, 15, 52, 0, 0, 2 * Math.PI);
    context.fill();
    context.restore();
  }
  const heart = context.createRadialGradient(-8, -8, 4, 0, 0, 46);
  heart.addColorStop(0, "#ffdf3d");
  heart.addColorStop(1, "#d99a06");
  context.fillStyle = heart;
  context.beginPath();
  context.arc(0, 0, 46, 0, 2 * Math.PI);
  context.fill();
}

function clock(context) {
  context.translate(SIDE / 2, SIDE / 2);
  context.fillStyle = "#fbfbf7";
  context.strokeStyle = "#2c2c30";
  context.lineWidth = 14;
  context.beginPath();
  context.arc(0, 0, 122, 0, 2 * Math.PI);
  context.fill();
  context.stroke();
  context.fillStyle = "#2c2c30";
  context.font = "bold 30px sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (let hour = 1; hour <= 12; hour++) {
    const angle = (hour * Math.PI) / 6;
    context.fillText(String(hour), 94 * Math.sin(angle), -94 * Math.cos(angle));
  }
  context.lineWidth = 9;
  context.stroke(new Path2D("M0 0 L-38 -40 M0 0 L48 -52"));
}

export const samples = [
  { name: "daisy", draw: () => canvasOf("#3f7a3a", daisy) },
  { name: "clock", draw: () => canvasOf("#b9a58a", clock) },
  { name: "seven", draw: () => canvasOf("#000", seven) },
];
